"""Description of a DistDGL job in RUN_DIR/cluster, and the three changes to DGL that run it.

    cluster/job.json      machines, trainers, the parts, a unique name
    cluster/machineI.json address of machine I's server, written by the machine
    cluster/addresses     the same for DGL, one line "address port" per machine
    cluster/graphI.json   DGL's description of the parts, under a name unique to machine I

Processes are started by hand or by quatrain.graph.distdgl.launcher, without ssh and without DGL's launch script.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from quatrain.errors import UsageError
from quatrain.files import read_json, write_json, write_text

FOLDER = "cluster"
WAIT_S = 0.05
"""How long DGL's processes wait between two tries to connect; its own 1 and 3 s make half of a short job."""
TRIES = 1200
"""Tries before a connection is given up."""
SHM = Path("/dev/shm")  # noqa: S108 - Linux keeps shared memory there


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One start of the processes of a run."""

    folder: Path
    """The run folder."""
    name: str
    """Prefix of the names of its shared memory."""
    parts: Path
    """The folder of parts."""
    machines: int
    trainers: int
    port: int = 0
    threads: int | None = None
    """OpenMP threads per process; None: chosen by the launcher from the cores of the host."""

    @property
    def place(self) -> Path:
        """The folder of the job's own files."""
        return self.folder / FOLDER

    @property
    def addresses(self) -> Path:
        """DGL's list of servers."""
        return self.place / "addresses"

    def graph_name(self, machine: int) -> str:
        """Return the name under which a machine shares its part of the graph."""
        return f"{self.name}m{machine}"

    def description(self, machine: int) -> Path:
        """Return DGL's description of the parts for one machine."""
        return self.place / f"graph{machine}.json"

    def write(self) -> None:
        """Write job.json, atomically, and the descriptions of the parts."""
        facts = read_json(self.parts / "graph.json")
        files = {
            key: {kind: str(self.parts / name) for kind, name in value.items()}
            for key, value in facts.items()
            if key.startswith("part-")
        }
        for machine in range(self.machines):
            write_json(self.description(machine), {**facts, **files, "graph_name": self.graph_name(machine)})
        record = {key: getattr(self, key) for key in ("name", "parts", "machines", "trainers", "port", "threads")}
        write_json(self.place / "job.json", record)

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Return the job of a run folder; UsageError when job.json is missing or damaged."""
        try:
            record = read_json(folder / FOLDER / "job.json")
            return cls(folder=folder, **{**record, "parts": Path(record["parts"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{str(folder)!r} holds no job of a gnn run: {error}") from error

    def meeting(self) -> str:
        """Return the rendezvous address of torch's process group: a port of the first machine."""
        first = read_json(self.place / "machine0.json")
        return f"tcp://{first['address']}:{first['meeting']}"

    def environment(self, machine: int, role: str) -> dict[str, str]:
        """Return the environment variables that DGL reads."""
        return {
            "DGL_DIST_MODE": "distributed",
            "DGL_ROLE": role,
            "DGL_SERVER_ID": str(machine),
            "DGL_GROUP_ID": "0",
            "DGL_IP_CONFIG": str(self.addresses),
            "DGL_CONF_PATH": str(self.description(machine)),
            "DGL_NUM_SERVER": "1",
            "DGL_NUM_SAMPLER": "0",
            "DGL_NUM_CLIENT": str(self.machines * self.trainers),
            "DGL_GRAPH_FORMAT": "csc,coo",
            "DGL_DIST_MAX_TRY_TIMES": str(TRIES),
        }

    def buffer(self, machine: int) -> Path:
        """Return the file of the buffer that the trainers of a machine share."""
        return SHM / f"{self.graph_name(machine)}-buffer"

    def sweep(self) -> list[str]:
        """Remove the job's remaining shared memory on this host; return the names."""
        remaining = [path for path in SHM.glob(f"*{self.name}*") if path.is_file()]
        for path in remaining:
            path.unlink(missing_ok=True)
        return [path.name for path in remaining]


def write_addresses(job: Job, servers: list[tuple[str, int]]) -> None:
    """Write DGL's list of servers, one (address, port) a machine."""
    write_text(job.addresses, "".join(f"{address} {port}\n" for address, port in servers))


def join(job: Job, machine: int, role: str) -> None:
    """Join a job: as a server until its trainers have disconnected, or as a trainer connected to all servers.

    Imports DGL with three changes. The machine's number is given, not looked up among the interfaces, so that several
    machines can share a host. Names of shared memory begin with the job's. Connections wait WAIT_S between tries.
    """
    os.environ.update(job.environment(machine, role))
    from quatrain.graph.distdgl import sampler
    from quatrain.graph.distdgl.import_dgl import dgl

    sampler.register()
    kvstore, rpc_client, rpc_server = (
        getattr(dgl.distributed, name) for name in ("kvstore", "rpc_client", "rpc_server")
    )
    kvstore.empty_shared_mem = _prefixed(kvstore.empty_shared_mem, job.graph_name(machine))
    rpc_client.get_local_machine_id = lambda _servers: machine
    impatient = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, WAIT_S)))
    rpc_client.time = rpc_server.time = impatient
    dgl.distributed.initialize(str(job.addresses))


def _prefixed(make: Callable[..., Any], prefix: str) -> Callable[..., Any]:
    def prefixed(name: str, *arguments: Any) -> Any:
        return make(f"{prefix}-{name}", *arguments)

    return prefixed
