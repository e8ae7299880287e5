"""Is the best sub-network smaller and better? The whole nas workflow, by seeds, on made and on real images.

    python benchmarks/supersam.py --data PATH [--seeds 0 1 2] [--quick] [-- FLAGS OF quatrain nas]

Each seed draws its own images, split, prompts, training and search. Every figure is measured on test images that
neither training nor search has seen; the pretrained net, the full net fine-tuned with the same images and steps, and
random nets of the found one's size stand beside it in each run. Figures are the mean over the seeds, with half of
their range as spread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lines import emit

Lines = dict[str, dict[str, Any]]
RANDOM = "random nets of the best one's size"


def main() -> None:
    """Run every case with every seed and print one JSON line a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", action="append", default=[], metavar="PATH", help="real images, beside the made ones")
    parser.add_argument("--no-made", action="store_true", help="leave the made images out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="one seed, a few steps: does it run at all?")
    parser.add_argument("--run-root", type=Path, default=Path("runs"))
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="flags of quatrain nas, after --")
    asked = parser.parse_args()
    flags = [flag for flag in asked.flags if flag != "--"]
    seeds = asked.seeds
    if asked.quick:
        seeds = seeds[:1]
        flags = ["--images", "24", "--few-shot-images", "4", "--train.steps", "4", "--search.evaluations", "4", *flags]
    for source in [*([] if asked.no_made else ["made:unseen"]), *asked.data]:
        runs = [study(source, seed, asked.run_root, flags) for seed in seeds]
        report(source if source.startswith("made") else Path(source).name, runs)


def study(source: str, seed: int, root: Path, flags: list[str]) -> Lines:
    """Run the workflow once and return its table by name."""
    command = [sys.executable, "-m", "quatrain.workflows.nas", "--data", source, "--seed", str(seed)]
    done = subprocess.run([*command, "--run-root", str(root), *flags], stdout=subprocess.PIPE, text=True, check=True)
    folder = next(line.split(": ", 1)[1] for line in done.stdout.splitlines() if line.startswith("run folder: "))
    print(f"{source} seed {seed}: {folder}", file=sys.stderr)
    return {line["name"]: line for line in json.loads((Path(folder) / "table.json").read_text())}


def report(case: str, runs: list[Lines]) -> None:
    """Print the figures of one case."""
    figures: list[tuple[str, Callable[[Lines], float], str, str, Callable[[float], bool] | None]] = [
        (
            "smaller by",
            lambda t: 1 - t["best"]["params"] / t["pretrained"]["params"],
            "share",
            "0.30 to 0.70",
            _smaller,
        ),
        ("mIoU of the pretrained net", lambda t: 100 * t["pretrained"]["miou_oracle"], "%", "", None),
        ("mIoU of the best sub-network", lambda t: 100 * t["best"]["miou_oracle"], "%", "", None),
        ("gain over the pretrained net", gain("pretrained"), "points", ">= 5", lambda v: v >= 5),
        ("gain over the pretrained net, chosen mask", gain("pretrained", "miou_chosen"), "points", ">= 5", None),
        ("gain over the fine-tuned full net", gain("fine-tuned"), "points", ">= -1", lambda v: v >= -1),
        ("gain over the fine-tuned full net, chosen mask", gain("fine-tuned", "miou_chosen"), "points", ">= -1", None),
        ("gain over random nets of its size", gain(RANDOM), "points", "", None),
        (
            "latency against the full net",
            lambda t: t["best"]["latency_ms"] / t["pretrained"]["latency_ms"],
            "ratio",
            "",
            None,
        ),
    ]
    for metric, of, unit, goal, reached in figures:
        values = [of(lines) for lines in runs]
        ok = None if reached is None else reached(statistics.fmean(values))
        emit("supersam", case, metric, values, unit=unit, goal=goal, ok=ok, middle=statistics.fmean)


def gain(over: str, figure: str = "miou_oracle") -> Callable[[Lines], float]:
    """Return a function from a table to the best net's gain over another, in points of mean IoU."""
    return lambda lines: 100 * (lines["best"][figure] - lines[over][figure])


def _smaller(share: float) -> bool:
    return 0.3 <= share <= 0.7


if __name__ == "__main__":
    main()
