"""Names become addresses: for clusters whose endpoints are host names (STRICT_DNS, LOGICAL_DNS).

Python's own `socket.getaddrinfo`, in a thread, since that is the one that knows the cluster's names in every
kind of lab (an embedded cluster has no DNS server).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from mesh.proxy.cluster_spec import EndpointSpec

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster

log = logging.getLogger(__name__)

REFRESH = 5.0
"""Seconds between look-ups (Envoy's `dns_refresh_rate`)."""


async def addresses(host: str, port: int) -> list[tuple[str, int]]:
    """All addresses of a name with their ports, in the order the resolver gives. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(None, _look_up, host, port)
    return list(dict.fromkeys((str(info[4][0]), int(info[4][1])) for info in found))


def _look_up(host: str, port: int) -> list[tuple[int, int, int, str, tuple[str | int, ...]]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]


async def keep_resolved(cluster: Cluster) -> None:
    """Look the cluster's names up, again and again; a failed look-up leaves the last answer in force."""
    while True:
        found: list[EndpointSpec] = []
        try:
            for spec in cluster.spec.endpoints:
                for address in await addresses(*spec.address):
                    found.append(EndpointSpec(address, spec.weight, match=spec.match, workload=spec.workload))
            cluster.assign(found)
        except OSError as error:
            log.warning("cluster %s: %s", cluster.name, error)
        await asyncio.sleep(REFRESH)
