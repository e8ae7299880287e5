"""States of the blocks of nodes that a run used: RUN_DIR/blocks.jsonl, one line for each change.

A block's own script prints its start, its end and its nodes on standard output, so the scheduler is not asked. If a job
is ended from outside, its script prints nothing; then Parsl's poll of the queue counts.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from parsl.executors.status_handling import BlockProviderExecutor
from parsl.jobs.states import JobState, JobStatus

from quatrain.files import Journal, read_lines
from quatrain.hpc.allocation import ANNOUNCED, expand

FILE = "blocks.jsonl"
SIGNALLED = tuple(128 + number for number in signal.valid_signals())
"""Exit codes of a shell that a signal ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One block: a job, or a pool of workers on this machine; times are Unix seconds."""

    name: str
    """Its shape and number, such as `gpu 0`, under the number of Parsl's folder."""
    job: str = ""
    nodes: tuple[str, ...] = ()
    gpus: int = 0
    """GPUs of all of its nodes."""
    queued: float = 0.0
    began: float | None = None
    until: float | None = None
    """When its walltime ends; None without a walltime."""
    ended: float | None = None
    how: str = ""
    """How it ended."""
    earlier: tuple[tuple[float, float], ...] = ()
    """Begin and end of each time in which it had its nodes before Slurm queued it again."""

    @property
    def driver(self) -> str:
        """The number of Parsl's folder, which identifies the driver that submitted it."""
        return self.name.partition(" ")[0]

    def spans(self, now: float) -> list[tuple[float, float]]:
        """Return the begin and end of each time in which it had its nodes."""
        last = [] if self.began is None else [(self.began, max(self.began, self.ended or now))]
        return [*self.earlier, *last]

    def seconds(self, now: float) -> float:
        """Return how long it has had its nodes."""
        return sum(end - begin for begin, end in self.spans(now))


def gpu_hours(blocks: Iterable[Block], now: float) -> float:
    """Return the GPU-hours of blocks; the time that blocks of one driver share in one job counts once."""
    together: dict[tuple[str, str], list[Block]] = defaultdict(list)
    for block in blocks:
        together[block.driver, block.job].append(block)
    return sum(_hours(group, now) for group in together.values())


def _hours(blocks: Sequence[Block], now: float) -> float:
    seconds, until = 0.0, 0.0
    for begin, end in sorted(span for block in blocks for span in block.spans(now)):
        seconds += max(0.0, end - max(begin, until))
        until = max(until, end)
    return seconds / 3600 * max(block.gpus for block in blocks)


def read(run_dir: Path) -> list[Block]:
    """Return the newest state of every block of a run, in the order of their submission."""
    newest: dict[str, Block] = {}
    for line in read_lines(run_dir / FILE):
        try:
            earlier = tuple((float(begin), float(end)) for begin, end in line.get("earlier", ()))
            newest[line["name"]] = Block(**{**line, "nodes": tuple(line["nodes"]), "earlier": earlier})
        except (KeyError, TypeError, ValueError):
            continue
    return list(newest.values())


@dataclass(kw_only=True, slots=True)
class BlockWatch:
    """Records the changes of a driver's blocks."""

    run_dir: Path
    folder: Path
    """Parsl's folder of this driver."""
    walltime_s: float | None
    """The walltime that each block requests; None if it requests none."""
    end_s: float | None
    """Unix time at which the used allocation ends."""
    gpus_per_node: int
    _journal: Journal = field(init=False)
    _known: dict[str, Block] = field(default_factory=dict)
    _seen_running: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._journal = Journal(self.run_dir / FILE)

    def look(self, executors: Iterable[BlockProviderExecutor]) -> list[Block]:
        """Return the blocks that changed since the last call, and append them to blocks.jsonl."""
        return self._keep([block for executor in executors for block in self._of(executor)])

    def close(self) -> list[Block]:
        """Return the blocks that ended with the driver, and append them to blocks.jsonl."""
        now = time.time()
        over = [replace(block, ended=now, how="released") for block in self._known.values() if block.ended is None]
        changed = self._keep([self._from_script(block.name.split()[1:], block) for block in over])
        self._journal.close()
        return changed

    def _keep(self, blocks: Sequence[Block]) -> list[Block]:
        changed = [block for block in blocks if self._known.get(block.name) != block]
        for block in changed:
            self._known[block.name] = block
            self._journal.append(asdict(block))
        return changed

    def _of(self, executor: BlockProviderExecutor) -> list[Block]:
        found = []
        status = executor.status_facade
        for number, job in list(executor.blocks_to_job_id.items()):
            name = f"{self.folder.name} {executor.label} {number}"
            block = self._known.get(name) or Block(name=name, job=str(job), queued=time.time())
            found.append(self._now([executor.label, number], block, status.get(number)))
        return found

    def _now(self, place: Sequence[str], block: Block, status: JobStatus | None) -> Block:
        """Return the present state of a block, from its script's output and from Parsl's poll of the queue."""
        over = status is not None and status.terminal
        if block.ended is not None and over:
            return block
        block = self._from_script(place, block)
        if block.ended is None and status is not None and over:
            return replace(block, ended=time.time(), how=status.status_name.lower().replace("_", " "))
        if block.began is not None and status is not None and status.state is JobState.RUNNING:
            self._seen_running.add(block.name)
        elif block.name in self._seen_running and status is not None and status.state is JobState.PENDING:
            self._seen_running.discard(block.name)  # else it only has begun since Parsl looked
            return _again_in_the_queue(block, time.time())
        return block

    def _from_script(self, place: Sequence[str], block: Block) -> Block:
        """Return a block with what its script printed."""
        shape, number = place
        for path in self.folder.glob(f"submit_scripts/parsl.{shape}.block-{number}.*"):
            if path.suffix in (".stdout", ".out"):
                for line in _announced(path):
                    with contextlib.suppress(KeyError, TypeError, ValueError):  # a line that is not the script's own
                        block = self._with(block, line)
        return block

    def _with(self, block: Block, line: Mapping[str, str]) -> Block:
        at = float(line["at"])
        if line["block"] == "ends":
            of_now = block.began is not None and at > block.began
            return replace(block, ended=at, how=_ending(int(line["code"]))) if of_now else block
        if at <= (block.began or 0.0) or at in (begin for begin, _ in block.earlier):
            return block
        if block.began is not None:  # nobody saw it in the queue meanwhile
            block = _again_in_the_queue(block, at)
        nodes = expand(line["nodes"])
        until = self.end_s if self.walltime_s is None else at + self.walltime_s
        return replace(
            block,
            job=line["job"] or block.job,
            nodes=nodes,
            gpus=self.gpus_per_node * len(nodes),
            began=at,
            until=until,
        )


def _again_in_the_queue(block: Block, now: float) -> Block:
    """Return a block that lost its nodes and that Slurm will start again."""
    return replace(block, began=None, ended=None, until=None, how="", earlier=tuple(block.spans(now)))


def _ending(code: int) -> str:
    return f"ended by {signal.Signals(code - 128).name}" if code in SIGNALLED else f"ended with code {code}"


def _announced(path: Path) -> list[dict[str, str]]:
    lines = path.read_text(encoding="utf8", errors="replace").splitlines()
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):  # torn
            found += [json.loads(line)] if line.startswith(ANNOUNCED) else []
    return found


def describe(block: Block) -> str:
    """Return the state of a block in a few words, for events.jsonl."""
    name = block.name.partition(" ")[2]
    job = f"job {block.job}"
    if block.ended is not None:
        return f"block {name} {block.how}, {job}"
    again = " again" if block.earlier else ""
    return f"block {name} {'queued' if block.began is None else 'began'}{again}, {job}"
