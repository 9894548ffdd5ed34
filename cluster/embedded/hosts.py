"""The cluster's DNS, as a file: names of Services and their addresses, read by every container's shim.

A name server would need port 53 and a resolver that asks it; a file that is replaced whenever a Service
changes needs neither. (Kubernetes "DNS for Services and Pods".)
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cluster.embedded.controllers.endpointslice import SERVICE_NAME
from cluster.embedded.informer import Informers
from cluster.embedded.kube import ENDPOINTSLICES, SERVICES, Object

Entries = dict[str, list[tuple[str, dict[str, int]]]]
"""`service.namespace` -> addresses, each with a map from port to the port really listened on."""


class Hosts:
    """Keeps the file up to date."""

    def __init__(self, informers: Informers, path: Path) -> None:
        self._services = informers.of(SERVICES)
        self._slices = informers.of(ENDPOINTSLICES)
        self._path = path
        self._pending: asyncio.TimerHandle | None = None
        self._written = ""

    def start(self) -> None:
        """Write the file now and whenever a name changes."""
        self._write()
        self._services.subscribe(lambda old, new: self._soon())
        self._slices.subscribe(lambda old, new: self._soon())

    def _soon(self) -> None:
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(0.002, self._write)

    def _write(self) -> None:
        self._pending = None
        text = json.dumps(entries(list(self._services.all()), list(self._slices.all())))
        if text != self._written:
            fresh = self._path.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(self._path)
            self._written = text


def entries(services: list[Object], slices: list[Object]) -> Entries:
    """All names: a cluster IP, the endpoints of a headless Service, or the other name of an ExternalName one."""
    found: Entries = {}
    headless: set[str] = set()
    for service in services:
        meta, spec = service["metadata"], service["spec"]
        name = f"{meta['name']}.{meta['namespace']}"
        if spec.get("type") == "ExternalName":
            found[name] = [(spec["externalName"], {})]
        elif spec.get("clusterIP") == "None":
            headless.add(name)
            found[name] = []
        elif spec.get("clusterIP"):
            found[name] = [(spec["clusterIP"], {})]
    for item in slices:
        meta = item["metadata"]
        name = f"{(meta.get('labels') or {}).get(SERVICE_NAME)}.{meta['namespace']}"
        if name in headless:
            for endpoint in item.get("endpoints") or []:
                _add(found, name, endpoint)
    return found


def _add(found: Entries, name: str, endpoint: Object) -> None:
    if not (endpoint.get("conditions") or {}).get("ready", True):
        return
    for address in endpoint["addresses"]:
        found[name].append((address, {}))
        if endpoint.get("hostname"):
            found.setdefault(f"{endpoint['hostname']}.{name}", []).append((address, {}))
