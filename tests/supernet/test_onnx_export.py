from __future__ import annotations

import builtins

import numpy as np
import onnxruntime
import pytest
import torch
from supernet_world import TINY, elastic

from quatrain.errors import UsageError
from quatrain.files import read_json
from quatrain.sam.build import load_sam
from quatrain.supernet import onnx_export
from quatrain.supernet.extract import extract, save
from quatrain.supernet.latency import Timing
from quatrain.supernet.space import Subnet
from quatrain.workflows.__main__ import main as command

SUBNET = Subnet.parse("96-0-48-24")
ONCE = Timing(warmup=0, repeats=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    sam = elastic()
    path = tmp_path_factory.mktemp("delivered") / "best.pth"
    save(path, extract(sam, sam.image_encoder, SUBNET), TINY, SUBNET)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "onnx"
    return out, onnx_export.export(checkpoint, out, ONCE)


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_both_graphs_agree_with_torch_and_say_so(exported):
    out, record = exported

    assert sorted(file.name for file in out.iterdir()) == ["decoder.onnx", "encoder.onnx", "export.json"]
    assert read_json(out / "export.json") == record
    for name in ("encoder", "decoder"):
        assert max(record[name]["difference"].values()) < 1e-4
        assert set(record[name]["latency_ms"]) == {"torch", "onnxruntime"}


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (20, 32)])
def test_masks_from_onnxruntime_alone_are_those_of_segment_anything(checkpoint, exported, size):
    sam, (height, width) = load_sam(checkpoint), size
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (3, height, width)).astype(np.float32)
    image = np.zeros((1, 3, 32, 32), np.float32)
    image[0, :, :height, :width] = pixels
    points = rng.uniform(0, 20, (5, 2, 2)).astype(np.float32)
    labels = np.array([[1, 0], [1, 1], [0, 1], [1, -1], [1, 0]])

    (embedding,) = session(exported[0] / "encoder.onnx").run(
        None, {"image": image, "valid_hw": np.array([[height, width]])}
    )
    masks, iou = session(exported[0] / "decoder.onnx").run(
        None, {"embedding": embedding, "points": points, "labels": labels}
    )

    stock = {
        "image": torch.from_numpy(pixels),
        "original_size": size,
        "point_coords": torch.from_numpy(points),
        "point_labels": torch.from_numpy(labels),
    }
    for place, several in ((slice(0, 1), False), (slice(1, None), True)):
        (expected,) = sam([stock], multimask_output=several)
        np.testing.assert_allclose(masks[:, place], expected["low_res_logits"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(iou[:, place], expected["iou_predictions"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("prompts", "points"), [(1, 1), (1, 4), (9, 1), (2, 3)])
def test_any_number_of_prompts_and_points_goes_in(exported, prompts, points):
    inputs = {
        "embedding": np.zeros((1, 16, 4, 4), np.float32),
        "points": np.ones((prompts, points, 2), np.float32),
        "labels": np.ones((prompts, points), np.int64),
    }

    masks, iou = session(exported[0] / "decoder.onnx").run(None, inputs)

    assert masks.shape == (prompts, 4, 16, 16)
    assert iou.shape == (prompts, 4)


def test_an_export_that_differs_from_torch_leaves_nothing_behind(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export._Graph, "write", lambda self, folder: folder / f"{self.name}.onnx")
    monkeypatch.setattr(onnx_export, "_session", lambda *_: None)
    monkeypatch.setattr(onnx_export, "_run", lambda *_: [np.zeros((1, 16, 4, 4), np.float32)])

    with pytest.raises(RuntimeError, match=r"embedding of the exported encoder differs from torch's by .*: nothing"):
        onnx_export.export(checkpoint, tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_sub_network_is_refused(tmp_path, capsys):
    (tmp_path / "none.pth").write_bytes(b"none")

    assert onnx_export.main([str(tmp_path / "none.pth"), str(tmp_path / "onnx")]) == 2
    assert "is not a checkpoint that can be read safely" in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()


def test_without_onnx_the_extra_is_named(checkpoint, tmp_path, monkeypatch):
    def missing(name, *rest, real=builtins.__import__):
        if name == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"exporting needs onnxruntime: pip install 'quatrain\[onnx\]'"):
        onnx_export.export(checkpoint, tmp_path / "onnx")


@pytest.mark.parametrize(
    ("given", "out"),
    [(["best.pth"], "best-onnx"), (["best.pth", "--out", "there"], "there"), (["--out", "there", "best.pth"], "there")],
)
def test_the_command_exports_beside_the_checkpoint_or_where_it_is_reported(monkeypatch, capsys, given, out):
    monkeypatch.setattr(onnx_export, "export", lambda path, folder: (path, folder))
    monkeypatch.setattr(onnx_export, "summary", lambda record: f"{record[0]} to {record[1]}")

    assert command(["export", *given]) == 0
    assert capsys.readouterr().out == f"best.pth to {out}\nexport: {out}\n"


@pytest.mark.parametrize("given", [[], ["a.pth", "b.pth"], ["--out", "there"], ["a.pth", "--in", "there"]])
def test_the_command_reports_its_usage(given, capsys):
    assert command(["export", *given]) == 2
    assert "usage: quatrain export CHECKPOINT [--out DIR]" in capsys.readouterr().err
