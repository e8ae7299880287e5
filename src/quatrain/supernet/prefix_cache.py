"""Disk cache of the encoder part that all networks of a space share, computed once per image.

The shared part is the patches, positions and leading blocks that no network of the space changes. It includes the
attention of the next block if that block can be narrowed but not dropped. All operations are those of the whole
encoder, so a network that continues from the cache gives bit-identical results.

B images, H W patches, C channels of the residual stream, S pixels of a side.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quatrain.files import replacing
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.space import Space, Subnet

LIMIT_BYTES = 4 << 30
"""Default capacity of a folder of prefixes; vit_b at 1024 px takes 12.6 MB per image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefix:
    """The leading part that all networks of a space share."""

    widths: tuple[int, ...]
    """Hidden channels of the leading blocks that are the same in all of them."""
    attended: bool = False
    """Whether the attention of the next block is shared too: its MLP is elastic, but it is never dropped."""

    @classmethod
    def of(cls, space: Space) -> Prefix:
        """Return what all networks of a space share."""
        count = 0
        while count < space.depth and len(space.choices[count]) == 1 and count not in space.removable:
            count += 1
        attended = count < space.depth and count not in space.removable
        return cls(widths=tuple(widths[0] for widths in space.choices[:count]), attended=attended)

    def begins(self, subnet: Subnet) -> bool:
        """Return whether `subnet` has this prefix."""
        count = len(self.widths)
        return subnet.widths[:count] == self.widths and (not self.attended or subnet.widths[count] > 0)

    def run(self, encoder: ElasticEncoder, image_B3SS: Tensor) -> Tensor:
        """Return the residual stream after the shared part, (B, H, W, C)."""
        x_BHWC = encoder.embed(image_B3SS)
        for index, width in enumerate(self.widths):
            if width:
                (x_BHWC,) = encoder.block(index, x_BHWC, (width,))
        return encoder.attend(len(self.widths), x_BHWC) if self.attended else x_BHWC

    def finish(self, encoder: ElasticEncoder, x_BHWC: Tensor, subnet: Subnet) -> Tensor:
        """Return the embedding of `subnet` from the stream of `run`, (B, prompt_dim, H, W).

        Raise ValueError for a network that does not have this prefix.
        """
        encoder.check(subnet)
        if not self.begins(subnet):
            raise ValueError(f"{subnet.key} does not begin with {self}; run it from the image")
        index = len(self.widths)
        if self.attended:
            (x_BHWC,) = encoder.mlp(index, x_BHWC, (subnet.widths[index],))
            index += 1
        for block, width in enumerate(subnet.widths[index:], start=index):
            if width:
                (x_BHWC,) = encoder.block(block, x_BHWC, (width,))
        return encoder.readout(x_BHWC)

    def fingerprint(self, encoder: ElasticEncoder) -> str:
        """Return a hash of the prefix, its weights and the arithmetic of this machine, 32 hexadecimal digits.

        Results of other CPUs, thread counts or torch versions may differ in the last bit, so they are not shared.
        """
        digest = hashlib.sha256(repr((self.widths, self.attended, _arithmetic(encoder))).encode())
        for name, value in sorted(encoder.state_dict().items()):
            if self._uses(name):
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()[:32]

    def _uses(self, name: str) -> bool:
        part, _, rest = name.partition(".")
        if part != "blocks":
            return part != "neck"
        block = int(rest.partition(".")[0])
        return block < len(self.widths) + self.attended


def _arithmetic(encoder: ElasticEncoder) -> tuple[str | int, ...]:
    device = next(encoder.parameters()).device
    if device.type == "cuda":
        return (torch.__version__, torch.cuda.get_device_name(device))
    capability = torch.backends.cpu.get_cpu_capability()
    return (torch.__version__, platform.processor(), capability, torch.get_num_threads())


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixStore:
    """Residual streams on disk by prefix and image; the workers of a node share a folder.

    Each stream is one file, written atomically. If a new one would exceed the limit, prefixes that are not in use are
    removed, the longest unchanged first. If that is not enough, the new one is not kept.
    """

    folder: Path
    """The folder of one sub-folder per prefix, named by its fingerprint."""
    prefix: str
    """The fingerprint of the prefix, see `Prefix.fingerprint`."""
    limit_bytes: int = LIMIT_BYTES
    """Largest total size of all files below `folder`, other prefixes included."""

    def __post_init__(self) -> None:
        if self.limit_bytes < 0:
            raise ValueError(f"limit_bytes is {self.limit_bytes}; it must be at least 0")

    def read(self, image: str) -> NDArray[np.float32] | None:
        """Return the cached stream of an image, memory-mapped copy-on-write, or None."""
        try:
            kept: NDArray[np.float32] = np.load(self._path(image), mmap_mode="c", allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):  # missing, or torn by a power failure
            return None
        return kept

    def write(self, image: str, stream_HWC: NDArray[np.float32]) -> bool:
        """Cache the stream of an image if there is space; return whether it is cached now."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _alone(self.folder / ".lock"):
                if self.read(image) is None:
                    if not self._free_space(stream_HWC.nbytes + _HEADER_BYTES):
                        return False
                    with replacing(self._path(image)) as temporary, temporary.open("wb") as file:
                        np.save(file, stream_HWC, allow_pickle=False)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        return True

    def _path(self, image: str) -> Path:
        return self.folder / self.prefix / f"{image}.npy"

    def _free_space(self, size: int) -> bool:
        taken = {path: _bytes(path) for path in self.folder.iterdir() if path.is_dir()}
        left = self.limit_bytes - sum(taken.values()) - size
        others = sorted((path for path in taken if path.name != self.prefix), key=lambda path: path.stat().st_mtime)
        if left + sum(taken[path] for path in others) < 0:
            return False
        for path in others:
            if left >= 0:
                break
            shutil.rmtree(path)
            left += taken[path]
        return True


_HEADER_BYTES = 128
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _bytes(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; it is released when the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with contextlib.suppress(OSError):  # without file locks the limit may be exceeded slightly
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
