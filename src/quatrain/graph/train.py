"""Training process: `python -m quatrain.graph.train RUN_DIR MACHINE TRAINER`, one process per trainer.

It joins the job, then torch's process group, then the graph, in DistDGL's order. It trains GraphSAGE or GAT on sampled
blocks (Hamilton et al. 2017; Velickovic et al. 2018) and averages gradients over all trainers. One thread prepares the
batches and alone uses DGL meanwhile (MassiveGNN, arXiv 2410.22697).
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
from quatrain.graph.distdgl.import_dgl import dgl
from quatrain.graph.distdgl.job import Job, join
from quatrain.graph.distdgl.partition import FEATURES, LABELS, read_facts
from quatrain.graph.distdgl.remote_features import DistTensorFeatures
from quatrain.graph.distdgl.rpc import RpcClient
from quatrain.graph.epoch_stats import EpochStats
from quatrain.graph.evaluation import FullNeighbourEvaluation
from quatrain.graph.loader import Batches, PeekableBatches, rank_vertices
from quatrain.graph.model import build_network
from quatrain.graph.prefetch import LookAhead, Preparation, PreparedBatch
from quatrain.graph.study import GnnStudy
from quatrain.graph.tuning.pipeline import OverheadEstimate
from quatrain.graph.tuning.trace import TraceWriter
from quatrain.progress import Meter
from quatrain.seeding import derive

log = logging.getLogger(__name__)


class GnnTrainer:
    """One training process: its vertices, its features and its replica of the network."""

    def __init__(self, study: GnnStudy, job: Job, graph: Any, machine: int, trainer: int) -> None:
        """Load the last checkpoint if there is one."""
        self.study, self.config, self.epoch = study, study.config.train, 0
        self.rank, self.ranks = machine * job.trainers + trainer, job.machines * job.trainers
        self.device = device(trainer)
        self.graph = graph
        facts = read_facts(job.parts)
        torch.manual_seed(derive(study.seed, "weights"))
        self.model = build_network(self.config, facts.features, facts.classes).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.config.lr)
        self.history: list[dict[str, Any]] = []
        self.client = RpcClient()
        self.labels = feature_path.tensor_source(graph.ndata[LABELS], self.config, self.client)
        features = DistTensorFeatures(graph.ndata[FEATURES], self.client)
        self.evaluation = FullNeighbourEvaluation(
            graph, self.model, features, trainer=trainer, trainers=job.trainers, device=self.device
        )
        self.cached_rows = 0
        self.overhead: OverheadEstimate
        self.tracing: feature_path.TracingReader | None = None
        self.at_end = ExitStack()
        shared = study.config.cluster.share_buffer and job.trainers > 1
        self.group = feature_path.CacheGroup(job.buffer(machine), trainer, job.trainers) if shared else None
        if study.checkpoint.exists():
            self.load()
        self.replica = nn.parallel.DistributedDataParallel(self.model)
        self.splits = job.parts / "splits.npz"

    def load(self) -> None:
        """Load the state after the last finished epoch."""
        state = checkpoint.load(self.study.checkpoint, str(self.device))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.history = state["epoch"], state["history"]

    def save(self) -> None:
        """Write the state and the rows of all epochs so far, atomically; rank 0 only."""
        if self.rank:
            return
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        checkpoint.save(self.study.checkpoint, {**state, "epoch": self.epoch, "history": self.history})
        write_json(self.study.folder / "epochs.json", self.history)

    def batches(self) -> Batches:
        """Return this trainer's batches of the training vertices."""
        with np.load(self.splits) as splits:
            vertices = rank_vertices(splits["train"], self.rank, self.ranks)
        return Batches(self.graph, vertices, self.config, derive(self.study.seed, "train", self.rank), self.client)

    def run(self) -> None:
        """Train to the last epoch, then write the accuracy on the test vertices."""
        batches = self.batches()
        stream = PeekableBatches(batches.stream(range(self.epoch, self.config.epochs)))
        preparation = self.preparation(batches, stream)
        meter = None if self.rank else Meter(self.study.folder, "train", total=self.config.epochs, done=self.epoch)
        while self.epoch < self.config.epochs:
            stop, self.overhead = self.next_stop(), OverheadEstimate(self.config.look_ahead)
            upcoming = itertools.islice(stream, (stop - self.epoch) * batches.steps)
            with self.prefetched(preparation.prepare(upcoming)) as prepared:
                while self.epoch < stop:
                    self.train(itertools.islice(prepared, batches.steps))
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
            write_json(self.study.folder / "result.json", {"test_accuracy": accuracy, "buffer_rows": self.cached_rows})

    def next_stop(self) -> int:
        """Return the next epoch after which batches are not prefetched, because evaluation uses DGL."""
        every = self.config.evaluate_every or self.config.epochs
        return min(self.config.epochs, (self.epoch // every + 1) * every)

    def preparation(self, batches: Batches, stream: PeekableBatches) -> Preparation:
        """Return the preparation of batches; all calls of DGL that wait are made here, before the first draw."""
        config = self.study.config
        writer = self.open_trace() if config.record_trace else None
        looks_ahead = config.buffer.spec.looks_ahead and not config.train.replicate
        accesses = stream.peek_inputs() if looks_ahead else None
        path = feature_path.build_feature_path(self.graph, config, self.client, accesses, self.group)
        self.cached_rows = path.cached_rows
        if writer:
            self.tracing = feature_path.TracingReader(
                path.reader, writer, feature_path.own_vertices(self.graph), batches.steps
            )
            self.at_end.callback(self.tracing.close)
        overlaps = batches.can_overlap and self.config.look_ahead > 0
        return Preparation(batches, self.tracing or path.reader, self.labels, overlaps=overlaps)

    def open_trace(self) -> TraceWriter:
        """Return the writer of this trainer's trace."""
        name = f"trainer-{self.rank}" + (f"-from-{self.epoch}" if self.epoch else "")
        return feature_path.open_trace(self.graph, self.study.folder / "traces" / f"{name}.h5")

    def prefetched(self, prepared: Iterator[PreparedBatch]) -> AbstractContextManager[Iterator[PreparedBatch]]:
        """Return the iterator, run by a thread of its own if `look_ahead` is above 0."""
        if not self.config.look_ahead:
            return nullcontext(prepared)
        return LookAhead(prepared, depth=self.config.look_ahead)

    def train(self, prepared: Iterator[PreparedBatch]) -> None:
        """Train one epoch and append its row to the history."""
        torch.manual_seed(derive(self.study.seed, "dropout", self.epoch, self.rank))
        self.replica.train()
        stats = EpochStats()
        while True:
            with stats.timed("wait_s"):
                batch = next(prepared, None)
            if batch is None:
                break
            stats.count(batch)
            before = stats.sums.train_s
            with stats.timed("train_s"):
                stats.sums.loss += self.update(batch)
            train_s = stats.sums.train_s - before
            self.overhead.step(batch.prepare_s, batch.cache_s, train_s)
            if self.tracing:
                self.tracing.step_times.append((batch.sample_s, train_s))
        stats.sums.overhead_s = self.overhead.take_s()
        self.epoch += 1
        self.history.append(stats.close(self.device))

    def update(self, batch: PreparedBatch) -> float:
        """Take one optimizer step; return the loss."""
        scores = self.replica([block.to(self.device) for block in batch.blocks], batch.features.to(self.device))
        loss = cross_entropy(scores, batch.labels.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def accuracy(self, part: str) -> float:
        """Return the share of a split's vertices that get their own label, over all trainers."""
        return self.evaluation.accuracy(self.splits, part)


def device(trainer: int) -> torch.device:
    """Return a trainer's device: a GPU if there is one and DGL was built with CUDA (PyPI's build is not)."""
    if torch.cuda.is_available():
        own = torch.device("cuda", trainer % torch.cuda.device_count())
        try:
            dgl.create_block(([0], [0])).to(own)
        except dgl.DGLError:
            log.warning("this DGL was built without CUDA: training runs on the CPU")
        else:
            return own
    return torch.device("cpu")


@contextmanager
def joined(job: Job, machine: int, trainer: int) -> Iterator[Any]:
    """Join a job as one of its trainers and yield its graph; at the end, wait for the other trainers.

    An exception is printed and ends the process at once, because DGL's own shutdown would wait for the others.
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
    except BaseException:  # noqa: BLE001 - the supervisor prints the end of the log
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
