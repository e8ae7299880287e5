"""The link between the two machines of `prefetch.py`: network namespaces, or a source that sleeps."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from throttled import ThrottledSource

from quatrain.graph.features.source import FeatureSource, IndexedSource

if TYPE_CHECKING:
    from quatrain.graph.distdgl.rpc import RpcClient

HOSTS = tuple(f"quatrain{os.getpid()}-{number}" for number in range(2))
ADDRESSES = ("10.231.77.1", "10.231.77.2")
LINK = "link0"


def sh(*words: str) -> None:
    """Run one command."""
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def network(*, wanted: bool) -> Iterator[bool]:
    """Create two namespaces with a link between them; yield False if that is not allowed or not wanted."""
    remove()
    try:
        if not wanted:
            raise PermissionError
        for host in HOSTS:
            sh("ip", "netns", "add", host)
        sh("ip", "link", "add", LINK, "netns", HOSTS[0], "type", "veth", "peer", "name", LINK, "netns", HOSTS[1])
        for host, address in zip(HOSTS, ADDRESSES, strict=True):
            sh("ip", "-n", host, "addr", "add", f"{address}/24", "dev", LINK)
            sh("ip", "-n", host, "link", "set", LINK, "up")
            sh("ip", "-n", host, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError):
        remove()
        yield False
        return
    try:
        yield True
    finally:
        remove()


def remove() -> None:
    """Remove the namespaces if they exist."""
    for host in HOSTS:
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)


def throttle(mbit: float | None) -> None:
    """Limit what this host sends to `mbit`, in Mbit/s; None removes the limit."""
    if mbit is None:
        subprocess.run(["tc", "qdisc", "del", "dev", LINK, "root"], check=False, capture_output=True)
        return
    burst = max(16, int(mbit * 1.25))  # kilobytes in 10 ms
    sh("tc", "qdisc", "replace", "dev", LINK, "root", "tbf", "rate", f"{mbit:g}mbit", "burst", f"{burst}kb",
       "latency", "400ms")  # fmt: skip


def received() -> int:
    """Return the bytes that this host has received over the link."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == LINK:
            return int(rest.split()[0])
    return 0


def sleepy(rows: Any, client: RpcClient | None = None, *, own: range, mbit: float) -> FeatureSource:
    """Return a source of DistDGL's rows without a network: rows of the other part are delayed."""
    from quatrain.graph.distdgl.remote_features import (
        DistTensorFeatures,  # importing DGL reads environment variables of the job
    )

    source: FeatureSource = IndexedSource(rows) if client is None else DistTensorFeatures(rows, client)
    return ThrottledSource(source, mbit_s=mbit, own=own)
