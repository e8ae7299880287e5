"""A delivered sub-network as ONNX: image encoder and decoder, checked against torch and timed beside it.

    python -m quatrain.supernet.onnx_export CHECKPOINT OUT_DIR

`encoder.onnx`: image (1, 3, S, S) float32, red green blue, 0 to 255, and valid_hw (1, 2) int64, the rows and columns
of the image (the rest is padding) -> embedding (1, C, h, w).
`decoder.onnx`: embedding (1, C, h, w), points (P, K, 2) float32, x and y in pixels of S, and labels (P, K) int64, 1
for foreground, 0 for background, -1 for padding -> masks (P, 4, 4h, 4w), logits: the single mask, then three
candidates, and iou (P, 4), the predicted one. The numbers of prompts P and of points K are free.
`export.json`: names and shapes, the largest differences from torch, milliseconds of both.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from quatrain import checkpoint
from quatrain.errors import UsageError
from quatrain.files import write_json
from quatrain.sam.batched_decoder import normalise, predict
from quatrain.sam.build import load_sam
from quatrain.sam.official import Sam
from quatrain.seeding import numpy_rng
from quatrain.supernet.latency import Timing, milliseconds

if TYPE_CHECKING:
    import onnxruntime

OPSET = 18
"""Attention becomes matrix products and a softmax, which onnxruntime runs on every processor."""
TOLERANCE = 1e-4
"""Largest accepted difference from torch, relative to the largest value if that is above 1."""
_INLINE_BYTES = 1 << 30
"""Networks with more weights store them in a separate file: an ONNX file is limited to 2 GiB."""

# S pixels of a side, P prompts, K points a prompt, C channels, h w positions of the embedding


class OnnxEncoder(nn.Module):
    """The image encoder with the normalisation before it."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, image_13SS: Tensor, valid_12: Tensor) -> Tensor:
        """Return the embedding (1, C, h, w) of an image with grey values from 0 to 255."""
        embedding: Tensor = self.sam.image_encoder(normalise(self.sam, image_13SS, valid_12))
        return embedding


class OnnxDecoder(nn.Module):
    """Prompt encoder and mask decoder of one image: points in, masks out."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam
        position_1Chw = sam.prompt_encoder.get_dense_pe().detach().clone()
        self.register_buffer("position_1Chw", position_1Chw)
        nothing = sam.prompt_encoder.no_mask_embed.weight.detach().clone()
        self.register_buffer("dense_1Chw", nothing[:, :, None, None].expand_as(position_1Chw).clone())

    def forward(self, embedding_1Chw: Tensor, point_PK2: Tensor, label_PK: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask logits (P, 4, 4h, 4w) and predicted IoU (P, 4), as segment_anything does for points."""
        position, dense = self.get_buffer("position_1Chw"), self.get_buffer("dense_1Chw")
        return predict(self.sam.mask_decoder, embedding_1Chw, position, self._prompts(point_PK2, label_PK), dense)

    def _prompts(self, point_PK2: Tensor, label_PK: Tensor) -> Tensor:
        """Return the prompts' tokens (P, K + 1, C): the points, then the token for "no box"."""
        encoder = self.sam.prompt_encoder
        side = torch.tensor(encoder.input_image_size[::-1], dtype=torch.float32)
        point_PJ2 = torch.cat([point_PK2, torch.zeros_like(point_PK2[:, :1])], dim=1)
        label_PJ1 = torch.cat([label_PK, torch.full_like(label_PK[:, :1], -1)], dim=1)[:, :, None]
        own_PJC = encoder.pe_layer._pe_encoding((point_PJ2 + 0.5) / side)
        tokens = torch.where(label_PJ1 < 0, encoder.not_a_point_embed.weight, own_PJC)
        for label in (0, 1):
            tokens = tokens + (label_PJ1 == label) * encoder.point_embeddings[label].weight
        return tokens


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """A module with the inputs to export and to check it."""

    name: str
    module: nn.Module
    example: dict[str, Tensor]
    others: tuple[dict[str, Tensor], ...]
    """Inputs for the check that the export did not use, of other sizes along free axes."""
    outputs: tuple[str, ...]
    free: dict[str, dict[int, str]]
    """Axes whose length is free, by input."""

    def write(self, folder: Path) -> Path:
        """Write NAME.onnx into `folder`."""
        path = folder / f"{self.name}.onnx"
        weights = sum(p.numel() * p.element_size() for p in self.module.parameters())
        axes = {name: torch.export.Dim(name) for own in self.free.values() for name in own.values()}
        shapes = tuple(
            {axis: axes[name] for axis, name in self.free.get(key, {}).items()} or None for key in self.example
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation warnings of torch's own exporter
            torch.onnx.export(
                self.module,
                tuple(self.example.values()),
                path,
                input_names=list(self.example),
                output_names=list(self.outputs),
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=weights > _INLINE_BYTES,
                verbose=False,
            )
        return path

    @torch.inference_mode()
    def torch_outputs(self, inputs: dict[str, Tensor]) -> list[np.ndarray]:
        """Return torch's outputs for inputs."""
        out = self.module(*inputs.values())
        return [one.numpy() for one in (out if isinstance(out, tuple) else (out,))]


def export(path: str | os.PathLike[str], out: str | os.PathLike[str], timing: Timing | None = None) -> dict[str, Any]:
    """Write a delivered sub-network's encoder and decoder as ONNX into `out`; return the content of export.json.

    Raises
    ------
    UsageError
        When the file is not a checkpoint, or onnx or onnxruntime is not installed.
    RuntimeError
        When onnxruntime's results differ from torch's by more than `TOLERANCE`; nothing is written then.
    """
    _needs_onnx()
    sam = load_sam(path)
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"checkpoint": os.fspath(path), "sha256": checkpoint.sha256(path), **_versions()}
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        for graph in (_encoder_graph(sam), _decoder_graph(sam)):
            record[graph.name] = _checked(graph, graph.write(Path(temporary)), timing or Timing())
        write_json(Path(temporary) / "export.json", record)
        target.mkdir(exist_ok=True)
        for file in sorted(Path(temporary).iterdir(), key=lambda file: file.name == "export.json"):
            file.replace(target / file.name)
    return record


def _needs_onnx() -> None:
    try:
        import onnx  # noqa: F401 - torch's exporter writes with them
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(f"exporting needs {error.name}: pip install 'quatrain[onnx]'") from error


def _versions() -> dict[str, Any]:
    import onnxruntime

    return {"opset": OPSET, "torch": torch.__version__, "onnxruntime": onnxruntime.__version__}


def _encoder_graph(sam: Sam) -> _Graph:
    side = int(sam.image_encoder.img_size)

    def inputs(seed: int) -> dict[str, Tensor]:
        rng = numpy_rng(seed, "image")
        image = torch.from_numpy(rng.integers(0, 256, (1, 3, side, side)).astype(np.float32))
        return {"image": image, "valid_hw": torch.from_numpy(rng.integers(side // 2, side + 1, (1, 2)))}

    return _Graph(
        name="encoder",
        module=OnnxEncoder(sam).eval(),
        example=inputs(0),
        others=(inputs(1),),
        outputs=("embedding",),
        free={},
    )


def _decoder_graph(sam: Sam) -> _Graph:
    encoder = sam.prompt_encoder
    embedding = torch.from_numpy(
        numpy_rng(0, "embedding").normal(size=(1, encoder.embed_dim, *encoder.image_embedding_size))
    ).float()

    def inputs(prompts: int, points: int) -> dict[str, Tensor]:
        rng = numpy_rng(0, "points", prompts, points)
        places = rng.uniform(0, encoder.input_image_size[0], (prompts, points, 2)).astype(np.float32)
        labels = torch.from_numpy(rng.integers(0, 2, (prompts, points)))
        return {"embedding": embedding, "points": torch.from_numpy(places), "labels": labels}

    return _Graph(
        name="decoder",
        module=OnnxDecoder(sam).eval(),
        example=inputs(3, 2),
        others=(inputs(1, 1), inputs(7, 1), inputs(2, 3)),
        outputs=("masks", "iou"),
        free={"points": {0: "prompts", 1: "points_each"}, "labels": {0: "prompts", 1: "points_each"}},
    )


def _checked(graph: _Graph, path: Path, timing: Timing) -> dict[str, Any]:
    """Return shapes, differences and milliseconds of a written graph; raise RuntimeError if it differs."""
    session = _session(path)
    difference = dict.fromkeys(graph.outputs, 0.0)
    for inputs in (graph.example, *graph.others):
        found = _run(session, inputs)
        for name, ours, theirs in zip(graph.outputs, graph.torch_outputs(inputs), found, strict=True):
            scale = max(1.0, float(np.abs(ours).max()))
            difference[name] = max(difference[name], float(np.abs(ours - theirs).max()) / scale)
    worst = max(difference, key=lambda name: difference[name])
    if not difference[worst] <= TOLERANCE:
        raise RuntimeError(
            f"{worst} of the exported {graph.name} differs from torch's by {difference[worst]:.1e}, "
            f"more than {TOLERANCE:.0e}: nothing was written"
        )
    in_torch, in_onnxruntime = milliseconds(_sides(graph, session), timing)
    return {
        "file": path.name,
        "inputs": _shapes(session.get_inputs()),
        "outputs": _shapes(session.get_outputs()),
        "difference": difference,
        "tolerance": TOLERANCE,
        "latency_ms": {"torch": in_torch, "onnxruntime": in_onnxruntime},
        "threads": torch.get_num_threads(),
    }


def _sides(graph: _Graph, session: onnxruntime.InferenceSession) -> list[Callable[[], object]]:
    return [lambda: graph.torch_outputs(graph.example), lambda: _run(session, graph.example)]


def _session(path: Path) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU with as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, inputs: dict[str, Tensor]) -> list[np.ndarray]:
    outputs: list[np.ndarray] = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return outputs


def _shapes(values: Sequence[Any]) -> dict[str, list[int | str]]:
    return {value.name: list(value.shape) for value in values}


def summary(record: dict[str, Any]) -> str:
    """Return the figures of an export as text, one line per graph."""
    lines = []
    for name in ("encoder", "decoder"):
        graph, ms = record[name], record[name]["latency_ms"]
        worst = max(graph["difference"].values())
        lines.append(
            f"{graph['file']}: differs from torch by {worst:.1e} at most; "
            f"{ms['torch']:.1f} ms in torch, {ms['onnxruntime']:.1f} ms in onnxruntime"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Export the checkpoint that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m quatrain.supernet.onnx_export", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("checkpoint", type=Path, help="a sub-network that a run delivered, such as best.pth")
    parser.add_argument("out_dir", type=Path, help="folder for encoder.onnx, decoder.onnx and export.json")
    asked = parser.parse_args(argv)
    try:
        print(summary(export(asked.checkpoint, asked.out_dir)))
    except UsageError as error:
        print(f"quatrain: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
