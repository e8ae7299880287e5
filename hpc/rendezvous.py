"""Rendezvous of the processes of one program: ranks, addresses, a free port, and one common run folder.

The launcher gives them, in this order: torchrun's variables; MPI (mpi4py), if mpiexec or `srun --mpi` started this
process; Slurm's variables under a plain srun. A single process needs no rendezvous.

    srun -n 8 python -m quatrain.hpc.rendezvous -m quatrain.nas.train RUN_DIR
    mpiexec -n 2 python -m quatrain.hpc.rendezvous -m quatrain.nas.train RUN_DIR

start a torch program without torchrun.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import socket
import sys
import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from quatrain.errors import UsageError
from quatrain.hpc.allocation import expand, meaning

BY_MPI = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID")
"""Variables that mpiexec or srun sets for a process of an MPI program."""
FIRST_PORT, PORTS = 29500, 2000
"""Range of computed ports: under plain srun the processes need a common port before they can exchange messages."""
PATIENCE_S = 120.0
"""Seconds that the processes of a plain srun wait for each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A process's place among those of one program."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1
    """Processes of the program on this computer."""
    addresses: tuple[str, ...] = ("127.0.0.1",)
    """Address of each rank's computer in the order of ranks; of each node if only nodes are known."""
    port: int = FIRST_PORT
    """A port of the first address that was free a moment ago."""
    run_dir: str = ""
    """The common run folder: the first rank's."""

    def variables(self) -> dict[str, str]:
        """Return torchrun's variables, which torch.distributed reads."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.ranks),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_ranks),
            "MASTER_ADDR": self.addresses[0],
            "MASTER_PORT": str(self.port),
        }


def meet(run_dir: str = "", environment: Mapping[str, str] | None = None) -> Group:
    """Return this process's place; UsageError if the processes were given different run folders."""
    environment = os.environ if environment is None else environment
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return by_torchrun(environment, run_dir)
    if started := [name for name in BY_MPI if name in environment]:
        return by_mpi(_world(started[0]), run_dir)
    if int(meaning("ranks", environment) or 1) > 1:
        return by_slurm(environment, run_dir)
    return Group(run_dir=run_dir, port=free_port())


def _world(variable: str) -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is installed, an MPI library is not
        raise UsageError(
            f"{variable} says that MPI started this process, but mpi4py cannot be used ({error}):"
            " pip install mpi4py, or start it with torchrun or `srun --mpi=none`"
        ) from error
    return MPI.COMM_WORLD


def by_torchrun(environment: Mapping[str, str], run_dir: str = "") -> Group:
    """Return the place from torchrun's variables."""
    return Group(
        rank=int(environment["RANK"]),
        ranks=int(environment["WORLD_SIZE"]),
        local_rank=int(environment.get("LOCAL_RANK", 0)),
        local_ranks=int(environment.get("LOCAL_WORLD_SIZE", 1)),
        addresses=(environment.get("MASTER_ADDR", "127.0.0.1"),),
        port=int(environment.get("MASTER_PORT", FIRST_PORT)),
        run_dir=run_dir,
    )


def by_mpi(comm: Any, run_dir: str = "") -> Group:
    """Return the place in an mpi4py communicator; all of its processes must call this together."""
    rank = comm.Get_rank()
    here = (own_address(), meaning("node_name", os.environ) or socket.gethostname(), run_dir)
    everyone = comm.allgather(here)
    _check_same({folder for _, _, folder in everyone})
    port = comm.bcast(free_port() if rank == 0 else None, root=0)
    mine = [number for number, (_, computer, _) in enumerate(everyone) if computer == here[1]]
    return Group(
        rank=rank,
        ranks=comm.Get_size(),
        local_rank=mine.index(rank),
        local_ranks=len(mine),
        addresses=tuple(address for address, _, _ in everyone),
        port=port,
        run_dir=run_dir,
    )


def by_slurm(environment: Mapping[str, str], run_dir: str = "") -> Group:
    """Return the place from srun's variables; all of the step's processes must call this together.

    Job and step determine the port, so all processes compute the same one. At the port PORTS below it the processes
    compare their run folders.
    """
    nodes = expand(meaning("step_node_list", environment) or "")
    rank, local = int(meaning("rank", environment) or 0), int(meaning("local_rank", environment) or 0)
    ranks = int(meaning("ranks", environment) or 1)
    step = int(meaning("job_id", environment) or 0) * 16 + int(meaning("step", environment) or 0)
    group = Group(
        rank=rank,
        ranks=ranks,
        local_rank=local,
        local_ranks=max(1, ranks // max(1, len(nodes))),
        addresses=tuple(reachable(node) for node in nodes) or ("127.0.0.1",),
        port=FIRST_PORT + step % PORTS,
        run_dir=run_dir,
    )
    port = group.port - PORTS
    if rank == 0:
        _check_same(_collected((listening(group.addresses), port), ranks, run_dir))
    else:
        _check_same(_exchanged((group.addresses[0], port), run_dir))
    return group


def listening(addresses: Sequence[str]) -> str:
    """Return the address on which the first process listens for the others.

    If its host name resolves to the loopback, as on Debian, it listens on all interfaces when other hosts take part.
    """
    first = addresses[0]
    return "" if len(set(addresses)) > 1 and socket.gethostbyname(first).startswith("127.") else first


def _check_same(folders: Iterable[str]) -> None:
    different = sorted(set(folders))
    if len(different) > 1:
        raise UsageError(f"the processes were given different run folders: {', '.join(map(repr, different))}")


def _collected(place: tuple[str, int], ranks: int, run_dir: str) -> list[str]:
    """Receive the run folders of the other processes, send them the whole list, and return it."""
    with contextlib.ExitStack() as opened:
        folders, streams = [run_dir], []
        try:
            server = opened.enter_context(socket.create_server(place))
            server.settimeout(PATIENCE_S)
            while len(folders) < ranks:
                connection = opened.enter_context(server.accept()[0])
                connection.settimeout(PATIENCE_S)
                streams.append(opened.enter_context(connection.makefile("rw", encoding="utf8")))
                folders.append(str(json.loads(streams[-1].readline())))
            for stream in streams:
                stream.write(f"{json.dumps(folders)}\n")
                stream.flush()
        except (OSError, ValueError) as error:
            raise UsageError(f"{len(folders)} of {ranks} processes met at {place[0]}:{place[1]}: {error}") from error
    return folders


def _exchanged(place: tuple[str, int], run_dir: str) -> list[str]:
    """Send this process's run folder to the first process, once it listens, and return those of all."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection = socket.create_connection(place, timeout=PATIENCE_S)
            break
        except OSError as error:
            if time.monotonic() > until:
                raise UsageError(f"the first process does not answer at {place[0]}:{place[1]}: {error}") from error
            time.sleep(0.05)
    with connection, connection.makefile("rw", encoding="utf8") as stream:
        try:
            stream.write(f"{json.dumps(run_dir)}\n")
            stream.flush()
            return [str(folder) for folder in json.loads(stream.readline())]
        except (OSError, ValueError) as error:
            raise UsageError(f"the first process at {place[0]}:{place[1]} has ended: {error}") from error


def meeting_point(node: str) -> str:
    """Return `ADDRESS:PORT` of a port of this computer, which is `node`, that is free now."""
    return f"{reachable(node)}:{free_port()}"


def reachable(node: str) -> str:
    """Return a node's name if it can be resolved, else this computer's (virtual nodes share one computer)."""
    return next((name for name in (node, socket.gethostname()) if _known(name)), own_address())


def _known(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None, socket.AF_INET)
    except OSError:
        return False
    return True


def own_address() -> str:
    """Return the first IPv4 address of this computer; loopback only if it has no other."""
    return addresses()[0]


def addresses() -> list[str]:
    """Return the IPv4 addresses of this host's interfaces, loopback only without any other; no DNS query is sent."""
    known = [a.address for entries in psutil.net_if_addrs().values() for a in entries if a.family is socket.AF_INET]
    return sorted({address for address in known if not address.startswith("127.")}) or ["127.0.0.1"]


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def main(argv: Sequence[str] | None = None, environment: MutableMapping[str, str] | None = None) -> None:
    """Find the other processes, set torchrun's variables, and run the program `-m MODULE ARGS...`."""
    words = list(sys.argv[1:] if argv is None else argv)
    environment = os.environ if environment is None else environment
    if len(words) < 2 or words[0] != "-m":
        raise UsageError("usage: python -m quatrain.hpc.rendezvous -m MODULE [ARGUMENTS]")
    try:
        environment.update(meet(words[2] if len(words) > 2 else "").variables())
    except UsageError as error:
        print(f"quatrain: {error}", file=sys.stderr)
        sys.exit(2)
    sys.argv = words[1:]
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
