"""Latency of image encoders: measured for whole networks, or predicted for any sub-network by a table of its parts.

A table is calibrated once per device: every width in both kinds of block, the embedding and the neck. Each part is
timed within passes of whole networks, with realistic cache contents. A prediction needs the table only, not torch.
"""

from __future__ import annotations

import bisect
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quatrain.errors import UsageError
from quatrain.files import read_json, write_json
from quatrain.sam.registry import SamShape
from quatrain.supernet.space import Space, Subnet

if TYPE_CHECKING:
    from torch import Tensor

    from quatrain.supernet.elastic import ElasticEncoder

FORMAT = "quatrain-latency-1"
"""The format name in a latency table's file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Number of passes of a timing."""

    warmup: int = 2
    """Passes before the counted ones."""
    repeats: int = 9
    """Counted passes."""
    batch: int = 1
    """Images per pass."""

    def __post_init__(self) -> None:
        for name, least in (("warmup", 0), ("repeats", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")

    @property
    def passes(self) -> int:
        """All passes, counted or not."""
        return self.warmup + self.repeats


def _nothing() -> None:
    pass


def milliseconds(
    sides: Sequence[Callable[[], object]],
    timing: Timing,
    wait: Callable[[], None] = _nothing,
    advance: Callable[[], None] = _nothing,
) -> list[float]:
    """Return the median milliseconds of each side, timed in turns so that machine drift affects all alike.

    `wait` returns when the device has finished what a side started, such as `torch.cuda.synchronize`; `advance` is
    called after every pass.
    """
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(timing.passes):
        for side, own in zip(sides, times, strict=True):
            wait()
            began = time.perf_counter()
            side()
            wait()
            elapsed_s = time.perf_counter() - began
            if turn >= timing.warmup:
                own.append(1000 * elapsed_s)
            advance()
    return [statistics.median(own) for own in times]


def measure(
    encoder: ElasticEncoder,
    subnets: Sequence[Subnet],
    timing: Timing | None = None,
    advance: Callable[[], None] = _nothing,
) -> list[float]:
    """Return the milliseconds per pass of each sub-network on the encoder's device, timed in turns.

    `advance` is called after every pass.
    """
    import torch

    image = _image(encoder, (timing or Timing()).batch)
    sides = [lambda subnet=subnet: encoder(image, subnet) for subnet in subnets]
    with torch.inference_mode():
        return milliseconds(sides, timing or Timing(), _wait(image), advance)


def calibrate(
    encoder: ElasticEncoder, space: Space, timing: Timing | None = None, check: Sequence[Subnet] = ()
) -> dict[str, Any]:
    """Return the latency table of a space on the encoder's device, as plain data.

    The networks of `check` are timed whole and compared with their predictions. The table has their relative errors,
    positive if the prediction is too slow.
    """
    timing, shape = timing or Timing(), encoder.shape
    embed, blocks, readout = _parts(encoder, space, timing)
    table: dict[str, Any] = {
        "format": FORMAT,
        "model": shape.name,
        "unit": "ms",
        **_circumstances(encoder, timing),
        "embed": embed,
        "readout": readout,
        "kinds": [_kind(shape, index) for index in range(shape.depth)],
        "blocks": blocks,
    }
    measured = measure(encoder, check, timing) if check else []
    table["checks"] = [
        {"subnet": subnet.key, "measured": ms, "predicted": predicted, "error": predicted / ms - 1}
        for subnet, ms in zip(check, measured, strict=True)
        for predicted in [predict(table, subnet)]
    ]
    return table


def predict(table: Mapping[str, Any], subnet: Subnet) -> float:
    """Return the predicted milliseconds of a sub-network: the sum of its parts in the table.

    Widths between two of the table are interpolated. Raise ValueError for a network of another depth or with a width
    outside of the table.
    """
    kinds = table["kinds"]
    if len(subnet.widths) != len(kinds):
        raise ValueError(f"{subnet.key} has {len(subnet.widths)} blocks; the latency table is of {len(kinds)}")
    blocks = (_block_ms(table["blocks"][kinds[index]], subnet.widths[index]) for index in subnet.kept)
    return float(table["embed"] + table["readout"] + sum(blocks))


def _block_ms(by_width: Mapping[str, float], width: int) -> float:
    known = sorted(map(int, by_width))
    if not known[0] <= width <= known[-1]:
        raise ValueError(f"width {width} is outside the latency table, which has {known[0]} to {known[-1]}")
    place = bisect.bisect_left(known, width)
    if known[place] == width:
        return by_width[str(width)]
    low, high = known[place - 1], known[place]
    share = (width - low) / (high - low)
    return by_width[str(low)] * (1 - share) + by_width[str(high)] * share


def write(path: str | os.PathLike[str], table: Mapping[str, Any]) -> None:
    """Write a table as JSON, atomically."""
    write_json(path, table)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a table back; raise UsageError if the file is missing or not a latency table."""
    try:
        table = read_json(path)
        if table["format"] != FORMAT:
            raise ValueError(f"its format is {table['format']!r}")
        for kind in table["kinds"]:
            min(table["blocks"][kind].values())
        float(table["embed"] + table["readout"])
    except FileNotFoundError:
        raise UsageError(f"there is no latency table {os.fspath(path)!r}: calibrate one first") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{os.fspath(path)!r} is not a latency table of this version: {error}") from error
    found: dict[str, Any] = table
    return found


def _kind(shape: SamShape, block: int) -> str:
    return "global" if block in shape.global_blocks else "window"


def _image(encoder: ElasticEncoder, batch: int) -> Tensor:
    import torch

    device = next(encoder.parameters()).device
    return torch.zeros(batch, 3, encoder.img_size, encoder.img_size, device=device)


def _wait(tensor: Tensor) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if tensor.is_cuda else _nothing


def _circumstances(encoder: ElasticEncoder, timing: Timing) -> dict[str, Any]:
    import platform

    import torch

    device = next(encoder.parameters()).device
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "image_px": encoder.img_size,
        "batch": timing.batch,
        "repeats": timing.repeats,
    }


def _parts(encoder: ElasticEncoder, space: Space, timing: Timing) -> tuple[float, dict[str, dict[str, float]], float]:
    """Time every part in passes of whole networks, one for each width, in turns."""
    import torch

    shape, image = encoder.shape, _image(encoder, timing.batch)
    widths = sorted({width for choice in space.choices for width in choice} | {shape.hidden})
    embed: list[float] = []
    readout: list[float] = []
    blocks: dict[tuple[str, int], list[float]] = {}
    with torch.inference_mode():
        for turn in range(timing.passes):
            for width in widths:
                first, *inner, last = _laps(encoder, image, width)
                if turn < timing.warmup:
                    continue
                embed.append(first)
                readout.append(last)
                for index, lap in enumerate(inner):
                    blocks.setdefault((_kind(shape, index), width), []).append(lap)
    table: dict[str, dict[str, float]] = {}
    for (kind, width), laps in blocks.items():
        table.setdefault(kind, {})[str(width)] = statistics.median(laps)
    return statistics.median(embed), table, statistics.median(readout)


def _laps(encoder: ElasticEncoder, image_B3SS: Tensor, width: int) -> list[float]:
    """Return the milliseconds of embedding, every block at one width, and neck, in one pass."""
    clock = _Clock(image_B3SS.is_cuda)
    x_BHWC = encoder.embed(image_B3SS)
    clock.lap()
    for index in range(encoder.shape.depth):
        (x_BHWC,) = encoder.block(index, x_BHWC, (width,))
        clock.lap()
    encoder.readout(x_BHWC)
    clock.lap()
    return clock.read()


class _Clock:
    """Times laps on the device, on a GPU without synchronisation between them."""

    def __init__(self, cuda: bool) -> None:
        self._cuda = cuda
        self._at: list[Any] = []  # events of a GPU, or seconds
        self.lap()

    def lap(self) -> None:
        """End a lap."""
        import torch

        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._at.append(event)
        else:
            self._at.append(time.perf_counter())

    def read(self) -> list[float]:
        """Return the milliseconds of every lap."""
        import torch

        pairs = zip(self._at, self._at[1:], strict=False)
        if not self._cuda:
            return [1000 * (end - start) for start, end in pairs]
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in pairs]
