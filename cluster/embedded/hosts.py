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
from cluster.embedded.ports import Listening, Ports

Entries = dict[str, list[tuple[str, dict[str, int]]]]
"""`service.namespace` -> addresses, each with a map from port to the port really listened on."""


class Hosts:
    """Keeps the file up to date."""

    def __init__(self, informers: Informers, path: Path, listening: Listening) -> None:
        self._services = informers.of(SERVICES)
        self._slices = informers.of(ENDPOINTSLICES)
        self._path = path
        self._listening = listening
        self._pending: asyncio.TimerHandle | None = None
        self._written = ""

    def start(self) -> None:
        """Write the file now and whenever a name changes."""
        self._write()
        self._services.subscribe(lambda old, new: self.soon())
        self._slices.subscribe(lambda old, new: self.soon())

    def soon(self) -> None:
        """Something changed: write in a moment, with what else changes until then."""
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(0.002, self._write)

    def _write(self) -> None:
        self._pending = None
        text = json.dumps(entries(list(self._services.all()), list(self._slices.all()), self._listening))
        if text != self._written:
            fresh = self._path.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(self._path)
            self._written = text


def entries(services: list[Object], slices: list[Object], listening: Listening) -> Entries:
    """All names: a cluster IP, the endpoints of a headless Service, or the other name of an ExternalName one."""
    found: Entries = {}
    headless: dict[str, Object] = {}
    for service in services:
        meta, spec = service["metadata"], service["spec"]
        name = f"{meta['name']}.{meta['namespace']}"
        if spec.get("type") == "ExternalName":
            found[name] = [(spec["externalName"], {})]
        elif spec.get("clusterIP") == "None":
            headless[name] = service
            found[name] = []
        elif spec.get("clusterIP"):
            real = listening.get((meta["namespace"], meta["name"]), {})
            found[name] = [(spec["clusterIP"], _texts(real))]
    for item in slices:
        meta = item["metadata"]
        name = f"{(meta.get('labels') or {}).get(SERVICE_NAME)}.{meta['namespace']}"
        if name in headless:
            for endpoint in item.get("endpoints") or []:
                _add(found, name, endpoint, _real_ports(headless[name], item))
    return found


def _texts(ports: Ports) -> dict[str, int]:
    return {str(port): real for port, real in ports.items()}


def _add(found: Entries, name: str, endpoint: Object, ports: dict[str, int]) -> None:
    if not (endpoint.get("conditions") or {}).get("ready", True):
        return
    for address in endpoint["addresses"]:
        found[name].append((address, ports))
        if endpoint.get("hostname"):
            found.setdefault(f"{endpoint['hostname']}.{name}", []).append((address, ports))


def _real_ports(service: Object, item: Object) -> dict[str, int]:
    """For a headless Service, the ports its clients ask for (the target ports) and those of the slice."""
    real = {port.get("name") or "": port["port"] for port in item.get("ports") or []}
    found: dict[str, int] = {}
    for port in service["spec"].get("ports") or []:
        asked = port.get("targetPort") or port["port"]
        there = real.get(port.get("name") or "")
        if isinstance(asked, int) and there is not None and there != asked:
            found[str(asked)] = there
    return found
