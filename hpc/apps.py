"""Tasks on workers: an app names its shape, its body is a function of quatrain.hpc.tasks.

Results are stored in the run folder, so a resumed run does not repeat finished tasks. The state changes of every task
are appended to events.jsonl.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from parsl.app.app import python_app
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import HighThroughputExecutor
from parsl.executors.errors import BadStateException

from quatrain.errors import UsageError, unwritable
from quatrain.hpc.blocks import Block, BlockWatch, describe
from quatrain.hpc.config import parsl_config, retry_cost
from quatrain.hpc.memoizer import Memo
from quatrain.hpc.placement import Placement
from quatrain.hpc.plan import Step
from quatrain.hpc.run import CAUGHT, Run, heeded, one_line
from quatrain.hpc.site import Shape
from quatrain.hpc.slurm_provider import SlurmJobs
from quatrain.hpc.worker import Call, MachineError, Reports, TaskError, perform

POLL_S = 0.5
App = Callable[..., "Future[Any]"]


@dataclass(kw_only=True, slots=True)
class _Progress:
    """What is known about a task under way."""

    key: str | None
    node: str = ""
    tries: int = 1
    announced: int = 0
    """The last try that events.jsonl records as running."""


@dataclass(kw_only=True)
class Workers:
    """The workers of one run; `app` makes tasks for them."""

    run: Run
    placement: Placement
    plan: Sequence[Step] = ()
    _under_way: dict[str, _Progress] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._resumable = {step.name for step in self.plan if step.resumable}
        self._memo = Memo(self.run.path, self.run.identity)
        self._reports = Reports(self.run.path / "parsl" / "started" / f"{os.getpid()}-{time.time_ns()}")

    def start(self) -> None:
        """Start Parsl and the watch over what workers report."""
        if self._memo.of_other_code:
            self.run.note(f"{self._memo.of_other_code} results of other code are computed anew")
        config = parsl_config(self.placement, self.run.path, self.plan, on_failure=self.failed_try)
        logging.raiseExceptions = False  # else Parsl's log prints a traceback for each line that a full disk refuses
        self._kernel = DataFlowKernel(config)
        self._pools = [e for e in self._kernel.executors.values() if isinstance(e, HighThroughputExecutor)]
        for pool in self._pools:
            if isinstance(pool.provider, SlurmJobs):
                pool.provider.report = self._note
        self._blocks = self._block_watch()
        self._watcher = threading.Thread(target=self.watch, name="quatrain-watch", daemon=True)
        self._watcher.start()

    def _note(self, text: str) -> None:
        with contextlib.suppress(OSError):  # as for the watch
            self.run.note(text)

    def _block_watch(self) -> BlockWatch:
        return BlockWatch(
            run_dir=self.run.path,
            folder=Path(self._kernel.run_dir),
            walltime_s=self.placement.left_s if self.placement.origin == "slurm" else None,
            end_s=self.placement.end_s,
            gpus_per_node=self.placement.site.gpus_per_node,
        )

    def count(self, shape: Shape) -> int:
        """Return how many tasks of a shape run at once if every node is available."""
        return self.placement.workers(shape)

    def app(self, body: Callable[..., Any], *, shape: Shape, name: str = "", remember: bool = True) -> App:
        """Return a function that starts `body` on a worker of a shape and returns the future of its plain result.

        The future raises UsageError and ValueError as the body raised them, and TaskError for anything else.
        """
        name = name or body.__name__
        start = python_app(perform, executors=[shape], cache=False, data_flow_kernel=self._kernel)

        def call(*arguments: Any, **keywords: Any) -> Future[Any]:
            key = self._memo.key(name, arguments, keywords) if remember else None
            return self._start(start, name, key, body, arguments, keywords)

        return call

    def _start(
        self,
        start: App,
        name: str,
        key: str | None,
        body: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Future[Any]:
        with self._lock:
            number = self._numbers[name] = self._numbers.get(name, 0) + 1
        task, answer = f"{name}-{number:04d}", Future[Any]()
        answer.set_running_or_notify_cancel()
        if key is not None and key in self._memo:
            self.run.event("remembered", task=task)
            answer.set_result(self._memo[key])
            return answer
        self._under_way[task] = _Progress(key=key)
        self.run.event("pending", task=task)
        call = Call(task=task, body=body, arguments=arguments, keywords=keywords, reports=str(self._reports.folder))
        start(call).add_done_callback(lambda done: self._finish(task, done, answer))
        return answer

    def _finish(self, task: str, done: Future[Any], answer: Future[Any]) -> None:
        """Record how a task ended and hand its result on; a disk that takes no record fails the task."""
        error = _cause(done.exception())
        try:
            if error is not None:
                self._read_reports()
            known = self._under_way.pop(task)
            if error is not None:
                self.run.event("failed", task=task, node=known.node, tries=known.tries, message=one_line(error))
                answer.set_exception(_described(task, known, error))
                return
            outcome = done.result()
            self._announce(task, known, outcome["node"], time.time())
            result = self._memo.remember(known.key, task, outcome["result"])
            self.run.event("done", task=task, node=outcome["node"], tries=known.tries)
            answer.set_result(result)
        except (OSError, TypeError, ValueError) as trouble:
            answer.set_exception(_unrecorded(task, trouble))

    def _announce(self, task: str, known: _Progress, node: str, at: float) -> None:
        with self._lock:
            known.node = node
            new = known.announced < known.tries
            known.announced = known.tries
        if new:
            self.run.event("running", task=task, node=node, tries=known.tries, at=at)

    def failed_try(self, error: Exception, record: Any) -> float:
        """Record a failed try and return its cost in the task's retry budget; Parsl calls this after each failure."""
        task = record["args"][0].task
        cost = retry_cost(error, resumable=task.rpartition("-")[0] in self._resumable)
        self._read_reports()
        known = self._under_way[task]
        if record["fail_cost"] + cost <= record["dfk"].config.retries:
            self.run.event("retried", task=task, node=known.node, tries=known.tries, message=one_line(error))
            with self._lock:
                known.tries += 1
        return cost

    def watch(self) -> None:
        """Write the workers' reports to events.jsonl and sync results to the disk, until `close` is called."""
        duties = (
            self.run.beat,
            self._read_reports,
            self._memo.sync,
            lambda: self._record_blocks(self._blocks.look(self._pools)),
        )
        while not self._stop.wait(POLL_S):
            for duty in duties:
                with contextlib.suppress(OSError):  # a full disk: the next finished task reports it
                    duty()

    def _record_blocks(self, changed: Sequence[Block]) -> None:
        for block in changed:
            self.run.event(
                "block", node=" ".join(block.nodes), message=describe(block), at=block.ended or block.began or 0
            )

    def _read_reports(self) -> None:
        for line in self._reports.new():
            known = self._under_way.get(line["task"])
            if known is not None:
                self._announce(line["task"], known, line["node"], line["at"])

    def close(self) -> None:
        """Release the workers and their nodes, stop watching, and close the memory of results."""
        _release(self._kernel)
        self._stop.set()
        self._watcher.join()
        self._record_blocks([*self._blocks.look(self._pools), *self._blocks.close()])
        self._memo.close()


@contextmanager
def open_workers(run: Run, placement: Placement, plan: Sequence[Step] = ()) -> Iterator[Workers]:
    """Start Parsl and yield its workers; release them and their nodes at the end, also after an error."""
    workers = Workers(run=run, placement=placement, plan=plan)
    workers.start()
    try:
        yield workers
    finally:
        with _patience():
            workers.close()


def _release(kernel: DataFlowKernel) -> None:
    """Shut Parsl down; also cancel the jobs of an executor in a bad state and close Parsl's log."""
    for executor in kernel.executors.values():
        if isinstance(executor, HighThroughputExecutor) and executor.bad_state_is_set and executor.provider:
            executor.provider.cancel(list(executor.blocks_to_job_id.values()))
    logs = [handler for handler in logging.getLogger("parsl").handlers if _writes_under(handler, kernel.run_dir)]
    kernel.cleanup()
    for handler in logs:
        handler.close()


def _writes_under(handler: logging.Handler, folder: str) -> bool:
    return isinstance(handler, logging.FileHandler) and handler.baseFilename.startswith(folder)


@contextmanager
def _patience() -> Iterator[None]:
    """Answer the first Ctrl-C during the release of nodes with a message; the second one ends the driver."""
    asked: list[int] = []

    def answer(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        print("quatrain: releasing the workers; press Ctrl-C again to quit immediately", file=sys.stderr)

    before = {number: signal.signal(number, answer) for number in heeded((signal.SIGINT, *CAUGHT))}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cause(error: BaseException | None) -> BaseException | None:
    """Return why an executor failed if that ended a task: a UsageError or a MachineError; else the task's own error."""
    if not isinstance(error, BadStateException):
        return error
    reason = error.executor.executor_exception if isinstance(error.executor, HighThroughputExecutor) else None
    if isinstance(reason, UsageError | MachineError):
        return reason
    return MachineError(f"the workers failed: {one_line(reason or error)}")


def _described(task: str, known: _Progress, error: BaseException) -> BaseException:
    if isinstance(error, UsageError | ValueError | TaskError):
        return error
    place = f" on {known.node}" if known.node else ""
    if isinstance(error, OSError) and (mistake := unwritable(error)) is not None:
        return UsageError(f"task {task}{place}: {mistake}; fix that and continue with --resume")
    tries = f" after {known.tries} tries" if known.tries > 1 else ""
    failure = TaskError(f"task {task} failed{place}{tries}: {one_line(error)}")
    failure.__cause__ = error
    return failure


def _unrecorded(task: str, trouble: Exception) -> Exception:
    if isinstance(trouble, OSError):
        return UsageError(f"the result of {task} cannot be written: {trouble.strerror}; free some space and --resume")
    return TaskError(f"task {task} returned what is not plain data: {trouble}")
