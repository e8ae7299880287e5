"""Segment Anything Models of any shape, from segment_anything's own classes, and their weights from trusted places."""

from __future__ import annotations

import os
from importlib import resources
from typing import Any

import cattrs
import torch

from quatrain import checkpoint
from quatrain.errors import UsageError
from quatrain.sam.official import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from quatrain.sam.registry import SamShape, check_checkpoint, shape

FORMAT = "quatrain-sam-1"
"""Value of `format` in the file of an extracted sub-network."""

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def build(sam: SamShape, seed: int) -> Sam:
    """Return a Sam of this shape with random weights that depend on `seed` alone, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Sam(image_encoder(sam), _prompt_encoder(sam), _mask_decoder(sam), list(PIXEL_MEAN), list(PIXEL_STD))
        _initialise(model.image_encoder)
    return model.eval()


def image_encoder(sam: SamShape, **changes: Any) -> ImageEncoderViT:
    """Return segment_anything's image encoder of this shape; `changes` override its constructor's arguments."""
    arguments = {
        "img_size": sam.image_px,
        "patch_size": sam.patch_px,
        "embed_dim": sam.embed_dim,
        "depth": sam.depth,
        "num_heads": sam.heads,
        "mlp_ratio": sam.mlp_ratio,
        "out_chans": sam.prompt_dim,
        "norm_layer": _norm,
        "use_rel_pos": True,
        "window_size": sam.window,
        "global_attn_indexes": sam.global_blocks,
    }
    return ImageEncoderViT(**(arguments | changes))


def _norm(channels: int) -> torch.nn.LayerNorm:
    return torch.nn.LayerNorm(channels, eps=1e-6)


def _prompt_encoder(sam: SamShape) -> PromptEncoder:
    return PromptEncoder(
        embed_dim=sam.prompt_dim,
        image_embedding_size=(sam.grid, sam.grid),
        input_image_size=(sam.image_px, sam.image_px),
        mask_in_chans=16,
    )


def _mask_decoder(sam: SamShape) -> MaskDecoder:
    transformer = TwoWayTransformer(
        depth=2, embedding_dim=sam.prompt_dim, mlp_dim=sam.decoder_mlp, num_heads=sam.decoder_heads
    )
    return MaskDecoder(
        num_multimask_outputs=3,
        transformer=transformer,
        transformer_dim=sam.prompt_dim,
        iou_head_depth=3,
        iou_head_hidden_dim=sam.prompt_dim,
    )


def _initialise(encoder: ImageEncoderViT) -> None:
    """Initialise the encoder's weights for training, in place.

    Linear layers get unit gain. Layers that write into the residual stream get 0.3 of it, so that the patch embedding
    still matters in deep encoders. Positions, which segment_anything initialises with 0, get small random values.
    """
    for name, parameter in encoder.named_parameters():
        if name == "pos_embed" or "rel_pos" in name:
            torch.nn.init.trunc_normal_(parameter, std=0.02)
    layers = [module for module in encoder.modules() if isinstance(module, torch.nn.Linear)]
    for layer in layers:
        torch.nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
        torch.nn.init.zeros_(layer.bias)
    patches = encoder.patch_embed.proj.weight
    torch.nn.init.trunc_normal_(patches, std=patches[0].numel() ** -0.5)
    with torch.no_grad():
        for block in encoder.blocks:
            block.attn.proj.weight.mul_(0.3)
            block.mlp.lin2.weight.mul_(0.3)


def load_mini() -> Sam:
    """Return the shipped, pretrained vit_mini (see the model card beside its weights)."""
    with resources.as_file(resources.files("quatrain.sam") / "weights" / "vit_mini.pth") as path:
        return load_weights(build(shape("vit_mini"), seed=0), checkpoint.load(path), str(path), "vit_mini")


def load_official(sam: SamShape, path: str | os.PathLike[str], *, verify: bool = True) -> Sam:
    """Return the official Sam of this shape from its authors' .pth file.

    Raises
    ------
    UsageError
        If the file is missing, is not the published one (`verify`), or holds a different model.
    """
    check_checkpoint(sam, path)
    if verify:
        found = checkpoint.sha256(path)
        if found != sam.checkpoint_sha256:
            raise UsageError(
                f"{os.fspath(path)!r} has SHA-256 {found}, not {sam.checkpoint_sha256} of the published {sam.name}:"
                " fetch it again, or pass --no-verify for weights of your own"
            )
    return load_weights(build(sam, seed=0), checkpoint.load(path), f"{os.fspath(path)!r}", sam.name)


def load_weights(model: Sam, weights: dict[str, Any], source: str, name: str) -> Sam:
    """Load a state dict into `model`; raise UsageError with the first difference if it does not fit."""
    expected = model.state_dict()
    for key in sorted(expected.keys() | weights.keys()):
        if key not in weights or key not in expected:
            where = "lacks" if key not in weights else "has"
            raise UsageError(f"{source} is not a checkpoint of {name}: it {where} {key!r}")
        if not isinstance(weights[key], torch.Tensor) or weights[key].shape != expected[key].shape:
            got = tuple(getattr(weights[key], "shape", ()))
            raise UsageError(
                f"{source} is not a checkpoint of {name}: {key!r} is {got}, not {tuple(expected[key].shape)}"
            )
    model.load_state_dict(weights)
    return model


def pretrained(name: str, path: str | os.PathLike[str] | None = None, *, verify: bool = True) -> Sam:
    """Return the pretrained Sam called `name`: vit_mini as shipped, the official ones from the file at `path`."""
    sam = shape(name)
    if path is not None:
        return load_official(sam, path, verify=verify)
    check_checkpoint(sam, path)
    return load_mini()


def plain_encoder(shape: SamShape, widths: tuple[int, ...]) -> ImageEncoderViT:
    """Return segment_anything's encoder with these MLP widths and random weights; width 0 leaves a block out."""
    kept = [block for block, width in enumerate(widths) if width]
    encoder = image_encoder(
        shape,
        depth=len(kept),
        global_attn_indexes=[place for place, block in enumerate(kept) if block in shape.global_blocks],
    )
    for place, block in enumerate(kept):
        mlp, width = encoder.blocks[place].mlp, widths[block]
        mlp.lin1 = torch.nn.Linear(shape.embed_dim, width)
        mlp.lin2 = torch.nn.Linear(width, shape.embed_dim)
    return encoder


def load_sam(path: str | os.PathLike[str]) -> Sam:
    """Return the Sam of an extracted checkpoint, in evaluation mode.

    It consists of segment_anything's classes and works with its SamPredictor and SamAutomaticMaskGenerator.

    Raises
    ------
    UsageError
        If the file is missing, unsafe to read, or not an extracted sub-network.
    """
    payload = checkpoint.load(path)
    if payload.get("format") != FORMAT:
        raise UsageError(f"{os.fspath(path)!r} is not an extracted sub-network: its format is not {FORMAT!r}")
    shape, widths = _architecture(payload, os.fspath(path))
    sam = build(shape, seed=0)
    sam.image_encoder = plain_encoder(shape, widths)
    weights = payload.get("model")
    if not isinstance(weights, dict):
        raise UsageError(f"{os.fspath(path)!r} holds no weights: its 'model' is a {type(weights).__name__}")
    return load_weights(sam, weights, f"{os.fspath(path)!r}", f"{shape.name} {'-'.join(map(str, widths))}").eval()


def _architecture(payload: dict[str, Any], path: str) -> tuple[SamShape, tuple[int, ...]]:
    try:
        shape = cattrs.structure(payload["shape"], SamShape)
        widths = tuple(map(int, payload["widths"]))
    except (cattrs.BaseValidationError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path!r} describes no valid architecture: {error}") from error
    if len(widths) != shape.depth or min(widths) < 0 or not 0 < max(widths) <= shape.hidden:
        raise UsageError(f"{path!r} describes no valid architecture: {list(widths)} does not fit {shape.name}")
    return shape, widths
