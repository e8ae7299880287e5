"""SAM's image encoder with elastic depth and width: any sub-network runs on the shared weights, without copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from quatrain.supernet.attention import attend
from quatrain.supernet.shapes import SamShape
from quatrain.supernet.subnet import Subnet

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT


class ElasticEncoder(nn.Module):
    """The image encoder of which every sub-network can be run (SuperSAM, section on elastic depth and width).

    It adopts the modules of a segment_anything encoder under the same names, so a state dict fits both ways. A
    dropped block is skipped: the residual stream passes through. A block of width k uses the first k rows of its
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
        """Return the embedding of normalised images, (B, prompt_dim, H, W), by a sub-network (default: the full one)."""
        chosen = self.shape.full if subnet is None else subnet
        self.check(chosen)
        x_BHWC = self.embed(image_B3SS)
        for block in chosen.kept:
            x_BHWC = self.block(block, x_BHWC, chosen.widths[block])
        return self.readout(x_BHWC)

    def check(self, subnet: Subnet) -> None:
        """Raise ValueError unless `subnet` fits into the encoder."""
        if len(subnet.widths) != self.shape.depth or max(subnet.widths) > self.shape.hidden:
            limit = f"{self.shape.depth} widths of at most {self.shape.hidden}"
            raise ValueError(f"subnet is {subnet.key}; {self.shape.name} takes {limit}")

    def embed(self, image_B3SS: Tensor) -> Tensor:
        """Return patches with their positions, (B, H, W, C), where the residual stream begins."""
        x_BHWC: Tensor = self.patch_embed(image_B3SS)
        return x_BHWC if self.pos_embed is None else x_BHWC + self.pos_embed

    def block(self, index: int, x_BHWC: Tensor, width: int) -> Tensor:
        """Pass the stream through a whole block whose MLP is `width` wide."""
        if self.checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._block, index, x_BHWC, width, use_reentrant=False)
            return out
        return self._block(index, x_BHWC, width)

    def _block(self, index: int, x_BHWC: Tensor, width: int) -> Tensor:
        return self.mlp(index, self.attend(index, x_BHWC), width)

    def attend(self, index: int, x_BHWC: Tensor) -> Tensor:
        """Add a block's attention to the stream."""
        block = self.blocks[index]
        qkv_BHWC = block.attn.qkv(block.norm1(x_BHWC))
        return x_BHWC + block.attn.proj(attend(qkv_BHWC, block.attn, block.window_size))

    def mlp(self, index: int, x_BHWC: Tensor, width: int) -> Tensor:
        """Add the first `width` hidden channels of a block's MLP to the stream."""
        block = self.blocks[index]
        lin1, lin2 = block.mlp.lin1, block.mlp.lin2
        hidden = functional.linear(block.norm2(x_BHWC), lin1.weight[:width], lin1.bias[:width])
        return x_BHWC + functional.linear(block.mlp.act(hidden), lin2.weight[:, :width], lin2.bias)

    def readout(self, x_BHWC: Tensor) -> Tensor:
        """Return the embedding that the mask decoder reads, (B, prompt_dim, H, W)."""
        out: Tensor = self.neck(x_BHWC.permute(0, 3, 1, 2))
        return out
