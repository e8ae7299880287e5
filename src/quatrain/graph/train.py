"""A trainer: `python -m quatrain.graph.train RUN_DIR MACHINE TRAINER`, one process each, beside the machines' servers.

The order of calls is DistDGL's: join the job, then torch's process group, then the graph. GraphSAGE or GAT over sampled
blocks (Hamilton et al. 2017; Velickovic et al. 2018), gradients averaged over all trainers; batches are prepared on one
thread, which alone talks to DGL while it lives (MassiveGNN, arXiv 2410.22697).
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

from quatrain import checkpoint
from quatrain.files import write_json
from quatrain.graph import feature_path
from quatrain.graph.config import FORESEEING
from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.job import Job, join
from quatrain.graph.distdgl.partition import FEATURES, LABELS, read_facts
from quatrain.graph.distdgl.remote_features import DistTensorFeatures
from quatrain.graph.distdgl.rpc import RpcClient
from quatrain.graph.epoch_stats import EpochStats, Step
from quatrain.graph.evaluation import FullNeighbourEvaluation
from quatrain.graph.loader import Batches, PeekableBatches, share
from quatrain.graph.model import build_network
from quatrain.graph.prefetch import LookAhead, Preparation
from quatrain.graph.study import GnnStudy
from quatrain.graph.tuning.pipeline import OverheadEstimate
from quatrain.graph.tuning.trace import TraceWriter
from quatrain.progress import Meter
from quatrain.seeding import derive

log = logging.getLogger(__name__)


class GnnTrainer:
    """One training process: its share of the vertices, its features, its replica of the network."""

    def __init__(self, study: GnnStudy, job: Job, graph: Any, machine: int, trainer: int) -> None:
        """Take up the last checkpoint, if there is one."""
        self.study, self.config, self.epoch = study, study.config.train, 0
        self.rank, self.ranks = machine * job.trainers + trainer, job.machines * job.trainers
        self.device = device(trainer)
        self.graph = graph
        facts = read_facts(job.parts)
        torch.manual_seed(derive(study.seed, "weights"))
        self.model = build_network(self.config, facts.features, facts.classes).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.config.lr)
        self.history: list[dict[str, Any]] = []
        self.mail = RpcClient()
        self.labels = feature_path.plain(graph.ndata[LABELS], self.config, self.mail)
        features = DistTensorFeatures(graph.ndata[FEATURES], self.mail)
        self.evaluation = FullNeighbourEvaluation(
            graph, self.model, features, trainer=trainer, trainers=job.trainers, device=self.device
        )
        self.rows = 0
        self.spared: OverheadEstimate
        self.traced: feature_path.TracingReader | None = None
        self.at_end = ExitStack()
        shares = study.config.cluster.share_buffer and job.trainers > 1
        self.share = feature_path.CacheGroup(job.buffer(machine), trainer, job.trainers) if shares else None
        if study.checkpoint.exists():
            self.load()
        self.replica = nn.parallel.DistributedDataParallel(self.model)
        self.splits = job.parts / "splits.npz"

    def load(self) -> None:
        """Take up the state after the last epoch that was finished."""
        state = checkpoint.load(self.study.checkpoint, str(self.device))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.history = state["epoch"], state["history"]

    def save(self) -> None:
        """Write the state and the epochs so far, atomically; one trainer does."""
        if self.rank:
            return
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        checkpoint.save(self.study.checkpoint, {**state, "epoch": self.epoch, "history": self.history})
        write_json(self.study.folder / "epochs.json", self.history)

    def batches(self) -> Batches:
        """Return this trainer's batches of the training vertices."""
        with np.load(self.splits) as splits:
            vertices = share(splits["train"], self.rank, self.ranks)
        return Batches(self.graph, vertices, self.config, derive(self.study.seed, "train", self.rank), self.mail)

    def run(self) -> None:
        """Train to the last epoch, then tell the accuracy on the test vertices."""
        batches = self.batches()
        stream = PeekableBatches(batches.stream(range(self.epoch, self.config.epochs)))
        preparation = self.preparation(batches, stream)
        meter = None if self.rank else Meter(self.study.folder, "train", total=self.config.epochs, done=self.epoch)
        while self.epoch < self.config.epochs:
            stop, self.spared = self.next_stop(), OverheadEstimate(self.config.look_ahead)
            coming = itertools.islice(stream, (stop - self.epoch) * batches.steps)
            with self.ahead(preparation.steps(coming)) as steps:
                while self.epoch < stop:
                    self.train(itertools.islice(steps, batches.steps))
                    if self.config.save_every and self.epoch % self.config.save_every == 0:
                        self.save()
                    if meter:
                        meter.set(self.epoch, f"loss {self.history[-1]['loss']:.3f}")
            if self.config.evaluate_every:
                self.history[-1]["accuracy"] = self.accuracy("valid")
            self.save()
        self.at_end.close()
        accuracy = self.accuracy("test")
        if not self.rank:
            write_json(self.study.folder / "result.json", {"test_accuracy": accuracy, "buffer_rows": self.rows})

    def next_stop(self) -> int:
        """Return the epoch before which nothing but training asks DGL for anything."""
        every = self.config.evaluate_every or self.config.epochs
        return min(self.config.epochs, (self.epoch // every + 1) * every)

    def preparation(self, batches: Batches, stream: PeekableBatches) -> Preparation:
        """Return what makes batches ready; all that DGL is asked for by its own calls is before the first draw."""
        config = self.study.config
        writer = self.trace() if config.record_trace else None
        foresees = config.buffer.policy in FORESEEING and not config.train.replicate
        way = feature_path.way(self.graph, config, self.mail, stream.accesses() if foresees else None, self.share)
        self.rows = way.rows
        if writer:
            self.traced = feature_path.TracingReader(
                way.features, writer, feature_path.own_vertices(self.graph), batches.steps
            )
            self.at_end.callback(self.traced.close)
        overlaps = batches.overlaps and self.config.look_ahead > 0
        return Preparation(batches, self.traced or way.features, self.labels, overlaps=overlaps)

    def trace(self) -> TraceWriter:
        """Begin the trace of this trainer."""
        name = f"trainer-{self.rank}" + (f"-from-{self.epoch}" if self.epoch else "")
        return feature_path.trace(self.graph, self.study.folder / "traces" / f"{name}.h5")

    def ahead(self, steps: Iterator[Step]) -> AbstractContextManager[Iterator[Step]]:
        """Return an iterator over steps that are made ready on a thread of their own where that is asked for."""
        if not self.config.look_ahead:
            return nullcontext(steps)
        return LookAhead(steps, depth=self.config.look_ahead)

    def train(self, steps: Iterator[Step]) -> None:
        """Train one epoch and enter it into the history."""
        torch.manual_seed(derive(self.study.seed, "dropout", self.epoch, self.rank))
        self.replica.train()
        ledger = EpochStats()
        while True:
            with ledger.timed("wait_s"):
                step = next(steps, None)
            if step is None:
                break
            ledger.count(step)
            before = ledger.sums.train_s
            with ledger.timed("train_s"):
                ledger.sums.loss += self.update(step)
            train_s = ledger.sums.train_s - before
            self.spared.step(step.prepare_s, step.own_s, train_s)
            if self.traced:
                self.traced.took.append((step.sample_s, train_s))
        ledger.sums.overhead_s = self.spared.take()
        self.epoch += 1
        self.history.append(ledger.close(self.device))

    def update(self, step: Step) -> float:
        """Take one step down the gradient; return the loss."""
        scores = self.replica([block.to(self.device) for block in step.blocks], step.features.to(self.device))
        loss = cross_entropy(scores, step.labels.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def accuracy(self, part: str) -> float:
        """Return the share of a split's vertices that get their own label, over all trainers."""
        return self.evaluation.accuracy(self.splits, part)


def device(trainer: int) -> torch.device:
    """Return a trainer's device: a GPU where there is one and DGL was built for it (that of PyPI was not)."""
    if torch.cuda.is_available():
        own = torch.device("cuda", trainer % torch.cuda.device_count())
        try:
            dgl.create_block(([0], [0])).to(own)
        except dgl.DGLError:
            log.warning("this DGL was built without CUDA: training runs on the processor")
        else:
            return own
    return torch.device("cpu")


@contextmanager
def joined(job: Job, machine: int, trainer: int) -> Iterator[Any]:
    """Join a job as one of its trainers and give its graph; at the end, wait for the others.

    What is raised meanwhile is printed and ends the process at once: DGL's own farewell would wait for the others.
    """
    join(job, machine, "client")
    rank, ranks = machine * job.trainers + trainer, job.machines * job.trainers
    own = device(trainer)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    backend = "nccl" if own.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=job.meeting(), rank=rank, world_size=ranks)
    try:
        yield dgl.distributed.DistGraph(job.graph_name(machine))
        dist.barrier()
    except BaseException:  # noqa: BLE001 - the keeper tells the end of the log
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    dist.destroy_process_group()


def main() -> None:
    """Join the job and train."""
    folder, machine, trainer = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    job = Job.read(folder)
    with joined(job, machine, trainer) as graph:
        GnnTrainer(GnnStudy.read(folder), job, graph, machine, trainer).run()


if __name__ == "__main__":
    main()
