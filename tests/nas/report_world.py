"""A run folder with made-up but plausible figures, as a nas run leaves it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from quatrain.files import append_line, write_json
from quatrain.report.overlay import overlay
from quatrain.sam.registry import shape
from quatrain.search.constraints import Bounds
from quatrain.search.evaluations import Trial
from quatrain.search.search import Search
from quatrain.supernet.cost import encoder_macs, encoder_parameters, full_subnet
from quatrain.supernet.space import Space, Subnet

SAM = shape("vit_mini")
SPACE = Space(
    full=full_subnet(SAM).widths,
    choices=((96, 128, 192, 288, 384),) * 12,
    removable=(1, 3, 4, 6, 9),
    drop_probability=(0.5,) * 5,
)


def made_run(folder: Path, *, evaluations: int = 60, best_miou: float = 0.853, side_px: int = 64) -> Path:
    """Fill `folder` with every file that a report reads, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    best = _search(folder, evaluations)
    baseline = {"miou": 0.74, **sizes(full_subnet(SAM))}
    found = {"miou": best_miou, **sizes(best), "subnet": best.key, "checkpoint": "checkpoints/best.pt"}
    found["reduction"] = 1 - found["params"] / baseline["params"]
    _asked(folder)
    write_json(
        folder / "summary.json",
        {
            "workflow": "nas",
            "state": "done",
            "seconds": 402.5,
            "seed": 0,
            "baseline": baseline,
            "finetuned": {**baseline, "miou": 0.857},
            "best": found,
            "evaluations": evaluations,
            "workers": 2,
            "split": {"training": 96, "validation": 38, "test": 58},
        },
    )
    _table(folder, best, best_miou)
    _training(folder)
    _importance(folder)
    _examples(folder, side_px)
    return folder


def sizes(subnet: Subnet) -> dict[str, float]:
    """Return params and gmacs of a network."""
    return {"params": encoder_parameters(SAM, subnet), "gmacs": encoder_macs(SAM, subnet) / 1e9}


def _score(subnet: Subnet) -> float:
    gain = sum((width / SAM.hidden) ** 0.4 * (3, 1, 2, 1)[i % 4] for i, width in enumerate(subnet.widths)) / 21
    return 0.60 + 0.25 * gain + 0.004 * math.sin(sum(subnet.widths))


def _search(folder: Path, evaluations: int) -> Subnet:
    bounds = Bounds.parse(SAM, max_params="60%")
    search = Search(
        space=SPACE, bounds=bounds, journal=folder / "search.jsonl", seed=0, budget=evaluations, engine="random"
    )
    while (trial := search.propose()) is not None:
        miou = _score(trial.subnet)
        search.record(trial, {"miou_oracle": miou, "miou_chosen": miou - 0.03})
    best = search.best()
    assert best is not None
    for subnet in (SPACE.largest(), SPACE.smallest()):
        search.record(Trial(subnet=subnet), {"miou_oracle": _score(subnet), "miou_chosen": _score(subnet) - 0.04})
    return best.subnet


def _asked(folder: Path) -> None:
    write_json(
        folder / "run.json",
        {
            "workflow": "nas",
            "command": ["--site", "local"],
            "configuration": {"model": "vit_mini", "data": "made:fibres,foam,polycrystal", "images": 192},
            "seed": 0,
            "site": {"name": "local", "cpus_per_node": 2},
            "versions": {"python": "3.11.7", "torch": "2.13.0", "parsl": "2026.10.26", "quatrain": "0.1.0"},
            "git": "c0a2fe6",
            "driver": {"host": "laptop", "pid": 1, "started": "2026-11-22T22:08:15Z"},
        },
    )


def _table(folder: Path, best: Subnet, best_miou: float) -> None:
    rows = [
        ("pretrained, zero-shot", full_subnet(SAM), 0.740, 0.690, 31.4, ""),
        ("full net, fine-tuned", full_subnet(SAM), 0.857, 0.831, 31.2, "the same steps and images as the supernet"),
        ("supernet, largest", SPACE.largest(), 0.851, 0.826, 31.3, ""),
        ("supernet, smallest", SPACE.smallest(), 0.781, 0.742, 14.2, ""),
        ("best found, at most 60 % of the parameters", best, best_miou, 0.829, 19.7, best.key),
        ("random nets of its size", best, 0.829, 0.797, None, "8 nets, mean and spread"),
    ]
    write_json(
        folder / "table.json",
        [
            {
                "name": name,
                **sizes(subnet),
                "latency_ms": latency,
                "miou_oracle": oracle,
                "miou_chosen": chosen,
                "images": 58,
                "note": note,
                **({"spread": 0.009} if name.startswith("random") else {}),
            }
            for name, subnet, oracle, chosen, latency, note in rows
        ],
    )


def _training(folder: Path, steps: int = 160) -> None:
    rng = np.random.default_rng(0)
    for run, nets in (("supernet", ("largest", "smallest", "random 1", "random 2")), ("finetune", ("full",))):
        for step in range(steps):
            for number, net in enumerate(nets):
                loss = 0.3 + 0.1 * number + math.exp(-step / 50) + rng.normal(0, 0.05)
                line = {"run": run, "step": step, "net": net, "loss": loss, "lr": 3e-4, "seconds": 0.9}
                append_line(folder / "training.jsonl", line)


def _importance(folder: Path) -> None:
    write_json(
        folder / "importance.json",
        {
            "importance": [0.31, 0.01, 0.09, -0.004, 0.006, 0.12, 0.012, 0.03, 0.05, 0.008, 0.06, 0.22],
            "removable": SPACE.removable,
            "probability": SPACE.drop_probability,
            "baseline_miou": 0.74,
        },
    )


def _examples(folder: Path, side_px: int) -> None:
    (folder / "examples").mkdir(exist_ok=True)
    examples = []
    for number in range(3):
        image_HWC, masks_NHW = _micrograph(number, side_px)
        example: dict[str, object] = {"name": f"image-{number}", "iou_pretrained": 0.71, "iou_found": 0.86}
        for part, masks in (
            ("image", masks_NHW[:0]),
            ("truth", masks_NHW),
            ("pretrained", np.roll(masks_NHW, side_px // 12, axis=2)),
            ("found", np.roll(masks_NHW, side_px // 40, axis=1)),
        ):
            example[part] = f"examples/image-{number}-{part}.png"
            Image.fromarray(overlay(image_HWC, masks)).save(folder / str(example[part]))
        examples.append(example)
    write_json(folder / "examples.json", examples)


def _micrograph(number: int, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side_px, :side_px] / side_px
    centres = rng.uniform(0.15, 0.85, (5, 2))
    masks_NHW = np.stack([(x - cx) ** 2 + (y - cy) ** 2 < 0.012 for cx, cy in centres])
    grey = 90 + 70 * masks_NHW.any(axis=0) + 30 * x + rng.normal(0, 14, x.shape)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2), masks_NHW
