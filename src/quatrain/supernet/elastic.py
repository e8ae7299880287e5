"""SAM's image encoder with elastic depth and width; any sub-network runs on the shared weights without copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quatrain.sam.attention import attend
from quatrain.sam.registry import SamShape
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.sliced_layers import gelu_linear, norm_linear
from quatrain.supernet.space import Subnet

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT


class ElasticEncoder(nn.Module):
    """An image encoder that runs any of its sub-networks (SuperSAM, section on elastic depth and width).

    It takes the modules of a segment_anything encoder under the same names, so a state dict fits both. A dropped block
    is skipped: it returns its input. A block of width k uses the first k rows of its
    MLP's first layer and the first k columns of the second.

    B images, S pixels of a side, H W patches, C channels.
    """

    def __init__(self, encoder: ImageEncoderViT, shape: SamShape, *, checkpointing: bool = False) -> None:
        super().__init__()
        if len(encoder.blocks) != shape.depth:
            raise ValueError(f"the encoder has {len(encoder.blocks)} blocks; {shape.name} has {shape.depth}")
        self.shape = shape
        self.img_size = encoder.img_size
        self.checkpointing = checkpointing
        self.patch_embed = encoder.patch_embed
        self.pos_embed = encoder.pos_embed
        self.blocks = encoder.blocks
        self.neck = encoder.neck

    def forward(self, image_B3SS: Tensor, subnet: Subnet | None = None) -> Tensor:
        """Return the embedding of normalised images by `subnet` (default: the full net), (B, prompt_dim, H, W)."""
        chosen = full_subnet(self.shape) if subnet is None else subnet
        self.check(chosen)
        x_BHWC = self.embed(image_B3SS)
        for index in chosen.kept:
            (x_BHWC,) = self.block(index, x_BHWC, (chosen.widths[index],))
        return self.readout(x_BHWC)

    def check(self, subnet: Subnet) -> None:
        """Raise ValueError unless `subnet` fits into the encoder."""
        if len(subnet.widths) != self.shape.depth or max(subnet.widths) > self.shape.hidden:
            limit = f"{self.shape.depth} widths of at most {self.shape.hidden}"
            raise ValueError(f"subnet is {subnet.key}; {self.shape.name} takes {limit}")

    def embed(self, image_B3SS: Tensor) -> Tensor:
        """Return patches with their positions, (B, H, W, C): the start of the residual stream."""
        # the patch embedding is channels-first in memory; without a contiguous copy every later layer would copy it
        x_BHWC: Tensor = self.patch_embed(image_B3SS).contiguous()
        return x_BHWC if self.pos_embed is None else x_BHWC + self.pos_embed

    def block(self, index: int, x_BHWC: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Pass the stream through a block; return one stream for each of the ascending MLP `widths`.

        All widths share the attention, and a wider MLP continues the sum of a narrower one.
        """
        if self.checkpointing and torch.is_grad_enabled():
            outs = checkpoint(self._block, index, x_BHWC, widths, use_reentrant=False)
            return cast("tuple[Tensor, ...]", outs)
        return self._block(index, x_BHWC, widths)

    def _block(self, index: int, x_BHWC: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
        return self.mlp(index, self.attend(index, x_BHWC), widths)

    def attend(self, index: int, x_BHWC: Tensor) -> Tensor:
        """Add a block's attention to the stream."""
        block: Any = self.blocks[index]
        qkv_BHWC = norm_linear(x_BHWC, block.norm1, block.attn.qkv, block.attn.qkv.out_features)
        attended_BHWC: Tensor = block.attn.proj(attend(qkv_BHWC, block.attn, block.window_size))
        return x_BHWC + attended_BHWC

    def mlp(self, index: int, x_BHWC: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Add the first k hidden channels of a block's MLP to the stream, for each k of the ascending `widths`."""
        block: Any = self.blocks[index]
        hidden = norm_linear(x_BHWC, block.norm2, block.mlp.lin1, widths[-1])
        return tuple(x_BHWC + out_BHWC for out_BHWC in gelu_linear(hidden, block.mlp.lin2, widths))

    def readout(self, x_BHWC: Tensor) -> Tensor:
        """Return the embedding that the mask decoder reads, (B, prompt_dim, H, W)."""
        out: Tensor = self.neck(x_BHWC.permute(0, 3, 1, 2))
        return out
