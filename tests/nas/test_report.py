from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_world import made_run

from quatrain.files import append_line, read_json, write_json
from quatrain.nas.report import write_report

PARTS = (
    ("table.json", "The nets side by side"),
    ("search.jsonl", "Size against quality"),
    ("examples.json", "What it sees"),
    ("training.jsonl", "Training"),
    ("importance.json", "Which blocks matter"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("runs") / "nas-1", evaluations=20)


@pytest.fixture
def run_dir(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "nas-1"))


@pytest.fixture
def bare(made: Path, tmp_path: Path) -> Path:
    """Give a folder that holds only what every run writes."""
    for name in ("run.json", "summary.json"):
        shutil.copy(made / name, tmp_path / name)
    return tmp_path


def change(path: Path, **values: object) -> None:
    write_json(path, read_json(path) | values)


def headline(run_dir: Path) -> str:
    text = write_report(run_dir).read_text(encoding="utf8")
    found = re.search("<h1>(.*?)</h1>", text)
    assert found is not None
    return found[1]


def test_a_finished_run_gets_every_section(run_dir):
    path = write_report(run_dir)
    text = path.read_text(encoding="utf8")

    assert path == run_dir / "report.html"
    assert "Left out" not in text
    for _, title in PARTS:
        assert f"<h2>{title}</h2>" in text
    assert text.count("<svg") == 4
    assert text.count("<img") == 12
    assert "quatrain nas --site local" in text
    assert "96 training, 38 validation, 58 test" in text


def test_the_page_asks_for_nothing_outside_itself(run_dir):
    text = write_report(run_dir).read_text(encoding="utf8")

    references = re.findall(r"""(?:src|href|data|action|poster)\s*=\s*["']?([^"'\s>]+)""", text)
    assert references
    assert all(reference.startswith(("data:image/jpeg", "#")) for reference in references)
    assert set(re.findall(r"url\(([^)]{1,2})", text)) <= {"#p"}
    assert "<script" not in text
    assert len(text) < 3_000_000


def test_equal_folders_give_equal_pages(run_dir):
    assert write_report(run_dir).read_bytes() == write_report(run_dir).read_bytes()


# What the first sentence claims


def test_a_better_and_smaller_net_is_reported_with_its_figures(bare):
    summary = read_json(bare / "summary.json")
    smaller = round(100 * summary["best"]["reduction"])

    assert headline(bare) == f"{smaller} % smaller, +11.3 mIoU points over the pretrained SAM"


@pytest.mark.parametrize(
    ("miou", "words"),
    [
        (0.70, "at a cost of 4.0 mIoU points against the pretrained SAM"),
        (0.7401, "level with the pretrained SAM"),
        (0.742, "+0.2 mIoU points over the pretrained SAM"),
    ],
)
def test_a_net_that_is_no_better_is_not_praised(bare, miou, words):
    change(bare / "summary.json", best=read_json(bare / "summary.json")["best"] | {"miou": miou})

    assert headline(bare).endswith(words)


def test_a_net_that_is_no_smaller_is_not_called_so(bare):
    summary = read_json(bare / "summary.json")
    change(bare / "summary.json", best=summary["best"] | {"params": summary["baseline"]["params"]})

    assert headline(bare).startswith("No smaller")


@pytest.mark.parametrize(
    ("miou", "words"),
    [
        (0.90, "4.7 points below the full net"),
        (0.80, "5.3 points above the full net"),
        (0.853, "Level with the full net"),
    ],
)
def test_the_fine_tuned_net_is_compared_as_it_is(bare, miou, words):
    change(bare / "summary.json", finetuned={"miou": miou, "params": 1, "gmacs": 1})

    assert words in write_report(bare).read_text(encoding="utf8")


@pytest.mark.parametrize("best", [None, {}, {"params": 5, "miou": None}])
def test_before_a_net_is_found_nothing_is_claimed(bare, best):
    change(bare / "summary.json", best=best, state="interrupted")

    assert headline(bare) == "No sub-network has been found yet: the run is interrupted"


# Runs that are not whole


@pytest.mark.parametrize(("name", "title"), PARTS)
def test_each_part_stands_on_its_own_file(made, bare, name, title):
    shutil.copytree(made / "examples", bare / "examples")
    shutil.copy(made / name, bare / name)

    text = write_report(bare).read_text(encoding="utf8")

    assert text.count("Left out: ") == len(PARTS) - 1
    for _, other in PARTS:
        left_out = re.search(rf"<h2>{other}</h2>\s*<p class=\"note\">Left out: ", text)
        assert (left_out is None) == (other == title)


def test_an_empty_folder_still_gives_a_page(tmp_path):
    text = write_report(tmp_path).read_text(encoding="utf8")

    assert text.count("Left out: ") == 6
    assert "the run is unfinished" in text


def test_a_torn_journal_and_training_log_are_drawn_as_far_as_they_go(run_dir):
    for name in ("search.jsonl", "training.jsonl"):
        with (run_dir / name).open("a") as file:
            file.write('{"event": "record", "run"')

    assert "Left out" not in write_report(run_dir).read_text(encoding="utf8")


def test_a_lost_picture_takes_only_its_row(made, bare):
    shutil.copytree(made / "examples", bare / "examples")
    shutil.copy(made / "examples.json", bare)
    (bare / "examples" / "image-1-found.png").unlink()

    assert write_report(bare).read_text(encoding="utf8").count("<img") == 8


def test_figures_that_were_not_measured_are_dashes(bare):
    write_json(bare / "table.json", [{"name": "pretrained", "params": 5_000_000, "miou_oracle": None}])

    text = write_report(bare).read_text(encoding="utf8")

    assert text.count(">\N{EN DASH}<") == 5


# The front


def test_nets_measured_on_other_images_than_the_searchs_are_named(made, bare):
    shutil.copy(made / "search.jsonl", bare)
    shutil.copy(made / "table.json", bare)
    text = write_report(bare).read_text(encoding="utf8")

    assert "Measured on the test images instead: pretrained, fine-tuned, largest, smallest." in text


def test_baselines_measured_on_the_searchs_images_need_no_remark(made, bare):
    shutil.copy(made / "search.jsonl", bare)
    shutil.copy(made / "table.json", bare)
    rows = [row | {"miou_validation": 0.7} for row in read_json(bare / "table.json")]
    write_json(bare / "table.json", rows)

    assert "test images instead" not in write_report(bare).read_text(encoding="utf8")


def test_the_found_nets_dropped_blocks_are_listed(bare):
    best = read_json(bare / "summary.json")["best"] | {"subnet": "384-0-384-0-96-96-96-96-96-96-96-96"}
    change(bare / "summary.json", best=best)

    assert "10 of 12 blocks are kept, with 33 % of the MLP channels. Dropped: 1, 3." in write_report(bare).read_text()


def test_the_random_nets_of_a_step_share_a_curve_and_ablations_have_none(made, bare):
    shutil.copy(made / "training.jsonl", bare)
    append_line(bare / "training.jsonl", {"run": "supernet-random", "step": 0, "net": "largest", "loss": 1.0})

    text = write_report(bare).read_text(encoding="utf8")

    curves = re.findall(r">((?:supernet|fine-tuned)[^<]*: \w+)</text>", text)
    assert curves == ["supernet: largest", "supernet: smallest", "supernet: random", "fine-tuned: full"]
    assert "Supernet: 160 steps of 0.900 s, fine-tuned: 160 steps of 0.900 s." in text


def test_writing_a_report_needs_no_torch(run_dir):
    script = (
        "import sys; from quatrain.nas.report import write_report;"
        "write_report(sys.argv[1]); print('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script, str(run_dir)], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_opens_the_page_and_asks_nobody(run_dir, tmp_path):
    path, log = write_report(run_dir), tmp_path / "net.json"
    quiet = ("background-networking", "component-update", "sync", "gpu", "extensions", "default-apps")
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", *(f"--disable-{part}" for part in quiet), "--no-first-run",
         f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", "--host-resolver-rules=MAP * ~NOTFOUND",
         "--dump-dom", path.as_uri()],
        capture_output=True, text=True, check=True, timeout=300, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip

    assert "<title>quatrain nas: nas-1</title>" in done.stdout
    requests = [event["params"] for event in json.loads(log.read_text())["events"] if "url" in event.get("params", {})]
    from_pages = [
        request["url"] for request in requests if request.get("initiator", "not an origin") != "not an origin"
    ]
    assert not [url for url in from_pages if not url.startswith(("file:", "data:"))]
