"""Shapes of SAM's networks as data, without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from quatrain.errors import UsageError, unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class SamShape:
    """All sizes that define one Segment Anything Model."""

    name: str
    image_px: int
    patch_px: int
    embed_dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    window: int
    """Side of a local attention window, in patches."""
    prompt_dim: int
    """Channels of the neck, the prompts and the decoder."""
    decoder_mlp: int
    decoder_heads: int
    mlp_ratio: int = 4
    checkpoint_sha256: str | None = None
    """SHA-256 of the official checkpoint, if one exists."""
    checkpoint_url: str | None = None
    """URL at which its authors publish it; quatrain never downloads it."""

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_px // self.patch_px

    @property
    def hidden(self) -> int:
        """Hidden channels of a full MLP."""
        return self.embed_dim * self.mlp_ratio

    def span(self, block: int) -> int:
        """Return the side, in patches, of the square over which a block attends."""
        return self.grid if block in self.global_blocks else self.window


_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_OFFICIAL = {
    "image_px": 1024,
    "patch_px": 16,
    "window": 14,
    "prompt_dim": 256,
    "decoder_mlp": 2048,
    "decoder_heads": 8,
}
SHAPES: dict[str, SamShape] = {
    shape.name: shape
    for shape in (
        SamShape(
            name="vit_mini",
            image_px=256,
            patch_px=16,
            embed_dim=96,
            depth=12,
            heads=3,
            global_blocks=(2, 5, 8, 11),
            window=8,
            prompt_dim=64,
            decoder_mlp=256,
            decoder_heads=4,
        ),
        SamShape(
            name="vit_b",
            embed_dim=768,
            depth=12,
            heads=12,
            global_blocks=(2, 5, 8, 11),
            checkpoint_sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            checkpoint_url=_META + "sam_vit_b_01ec64.pth",
            **_OFFICIAL,
        ),
        SamShape(
            name="vit_l",
            embed_dim=1024,
            depth=24,
            heads=16,
            global_blocks=(5, 11, 17, 23),
            checkpoint_sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            checkpoint_url=_META + "sam_vit_l_0b3195.pth",
            **_OFFICIAL,
        ),
        SamShape(
            name="vit_h",
            embed_dim=1280,
            depth=32,
            heads=16,
            global_blocks=(7, 15, 23, 31),
            checkpoint_sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            checkpoint_url=_META + "sam_vit_h_4b8939.pth",
            **_OFFICIAL,
        ),
    )
}


def shape(name: str) -> SamShape:
    """Return the shape called `name`; raise UsageError with the nearest known name if it is unknown."""
    if name not in SHAPES:
        raise unknown("model", name, SHAPES)
    return SHAPES[name]


def check_checkpoint(sam: SamShape, path: str | os.PathLike[str] | None) -> None:
    """Raise UsageError unless `sam` is shipped and `path` is None, or the file exists."""
    if path is None and sam.checkpoint_url is not None:
        raise UsageError(f"{sam.name} needs --checkpoint PATH: get {sam.checkpoint_url} and pass its path")
    if path is not None and sam.checkpoint_url is None:
        raise UsageError(f"{sam.name} has no official checkpoint: leave --checkpoint out")
    if path is not None and not os.path.isfile(path):
        raise UsageError(f"there is no checkpoint {os.fspath(path)!r}: check the path given by --checkpoint")
