"""A real Slurm of a few virtual GPU nodes on this one machine, for tests and for trying things by hand.

    python tests/cluster/virtual_slurm.py start FOLDER     # prints the line to export
    python tests/cluster/virtual_slurm.py stop FOLDER

Everything lies in FOLDER; nothing outside of it is written. It takes Debian's slurmctld, slurmd, slurm-client and
munge, as root or as a plain user, and neither systemd, cgroups, a database nor a GPU.
"""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

NODES = ("nid001", "nid002")
SPARE_NODES = ("nid003", "nid004")
"""Two more in a partition of their own, for runs that wait while others work."""
GPUS = 4
CPUS = 64
MEMORY_MB = 64_000
FEATURES = "gpu,hbm40g"
START_S = 30.0
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "srun")

CONFIGURATION = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# a requeued job waits for as long as a credential lives
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
# several slurmd share one small host: its real size does not count, and there are no cgroups
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
EnforcePartLimits=ALL
ReturnToService=2
KillWait=5
UnkillableStepTimeout=20
MinJobAge=300
Licenses=scratch:1000,cfs:1000
{plugins}
NodeName={nodes},{spare} NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] \
CPUs={cpus} CoresPerSocket={cpus} RealMemory={memory} Gres=gpu:a100:{gpus} Feature={features}
PartitionName=gpu Nodes={nodes} Default=YES DefaultTime=5 MaxTime=60 State=UP
PartitionName=spare Nodes={spare} DefaultTime=5 MaxTime=60 State=UP
"""


def missing_commands() -> list[str]:
    """Return the commands that a cluster needs and this machine lacks."""
    path = _search_path()
    return [name for name in NEEDED if shutil.which(name, path=path) is None]


def start(folder: Path) -> Path:
    """Start a cluster in a new or stopped folder and return its slurm.conf, once every node is idle."""
    folder = folder.resolve()
    for name in ("state", "spool", "run"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("state", "spool", "run", "log", "dev"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path in (folder, folder / "run"):
        path.chmod(0o755)  # munge refuses a socket that others could replace
    _start_munge(folder)
    configuration = _write_configuration(folder)
    environment = {**os.environ, "PATH": _search_path(), "SLURM_CONF": str(configuration)}
    subprocess.run(["slurmctld"], check=True, env=environment)
    for node in (*NODES, *SPARE_NODES):
        subprocess.run(["slurmd", "-N", node], check=True, env=environment)
    _await_idle(folder, environment)
    return configuration


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _start_munge(folder: Path) -> None:
    key = folder / "munge.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
    files = {"key-file": key, "socket": folder / "run/munge.sock", "pid-file": folder / "run/munged.pid"}
    files |= {"seed-file": folder / "run/munge.seed", "log-file": folder / "log/munged.log"}
    options = [f"--{name}={path}" for name, path in files.items()]
    subprocess.run(["munged", "--force", *options], check=True, env={**os.environ, "PATH": _search_path()})


def _write_configuration(folder: Path) -> Path:
    port = _free_ports(1 + len(NODES + SPARE_NODES))
    plugins = folder / "plugstack.conf"
    nodes, spare = ",".join(NODES), ",".join(SPARE_NODES)
    text = CONFIGURATION.format(
        folder=folder,
        host=socket.gethostname().partition(".")[0],
        user=getpass.getuser(),
        port=port,
        first=port + 1,
        last=port + len(NODES + SPARE_NODES),
        nodes=nodes,
        spare=spare,
        cpus=CPUS,
        gpus=GPUS,
        memory=MEMORY_MB,
        features=FEATURES,
        plugins=f"PlugStackConfig={plugins}" if plugins.exists() else "",
    )
    path = folder / "slurm.conf"
    path.write_text(text)
    device = _devices(folder)
    (folder / "gres.conf").write_text(f"NodeName={nodes},{spare} Name=gpu Type=a100 File={device}[0-{GPUS - 1}]\n")
    return path


def _devices(folder: Path) -> str:
    """Return the common beginning of character devices that end in 0, 1, ...: Slurm takes its GPUs' numbers from them.

    Root makes twins of the null device; a plain user takes the terminals that every Linux has.
    """
    if os.geteuid() != 0:
        return "/dev/tty"
    for number in range(GPUS):
        path = folder / "dev" / f"nvidia{number}"
        if not path.exists():
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    return str(folder / "dev" / "nvidia")


def _free_ports(count: int) -> int:
    """Return the first of `count` successive ports that nothing listens on; two clusters that start look elsewhere."""
    begin = os.getpid() * 20 % 10_000
    for offset in range(0, 10_000, 20):
        first = 21_000 + (begin + offset) % 10_000
        if all(_is_free(first + number) for number in range(count)):
            return first
    raise RuntimeError("no free ports between 21000 and 31000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _await_idle(folder: Path, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + START_S
    argv = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    while time.monotonic() < deadline:
        idle = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False).stdout.split()
        if set(idle) >= {*NODES, *SPARE_NODES}:
            return
        time.sleep(0.1)
    log = (folder / "log" / "slurmctld.log").read_text().splitlines()[-10:]
    raise RuntimeError("the virtual nodes are not idle:\n" + "\n".join(log))


def stop(folder: Path) -> None:
    """Cancel every job and end exactly the daemons whose numbers lie in the folder."""
    folder = folder.resolve()
    environment = {**os.environ, "PATH": _search_path(), "SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run(["scancel", "--user", getpass.getuser()], env=environment, check=False, capture_output=True)
    _await_no_jobs(environment)
    for name in ("slurmctld.pid", *(f"slurmd-{node}.pid" for node in (*NODES, *SPARE_NODES)), "munged.pid"):
        path = folder / "run" / name
        if path.exists() and path.read_text().strip():
            _end(int(path.read_text()))


def _await_no_jobs(environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        jobs = subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True, check=False)
        if not jobs.stdout.strip():
            return
        time.sleep(0.1)


def _end(pid: int) -> None:
    deadline = time.monotonic() + 10
    try:
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> None:
    """Start or stop a cluster by hand."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "stop":
        stop(arguments.folder)
    elif lacking := missing_commands():
        sys.exit(f"not installed: {', '.join(lacking)} (Debian: slurmctld slurmd slurm-client munge)")
    else:
        print(f"export SLURM_CONF={start(arguments.folder)}")


if __name__ == "__main__":
    main()
