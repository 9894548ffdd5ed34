"""A container's environment variables, command and working directory. Pure, but for looking up ConfigMaps and
Secrets.

Kubernetes' order: variables of Services, then `envFrom`, then `env`, each `$(NAME)` replaced by what stands
before. Around those comes what a container image and a network namespace would give: PATH, HOSTNAME, and the
LAB_ variables of the embedded network (see `shim.py`).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from cluster.embedded.kube import CONFIGMAPS, SECRETS, Object, Resource
from cluster.embedded.kubelet import downward

Lookup = Callable[[Resource, str, str], Awaitable[Object | None]]
"""Finds an object by resource, namespace and name."""

_REFERENCE = re.compile(r"\$(\$|\(([^()]+)\))")


class ConfigError(Exception):
    """The container cannot be configured: CreateContainerConfigError, with Kubernetes' message."""


@dataclass(frozen=True)
class Place:
    """What a container's environment says of where it runs."""

    pod_address: str
    node_address: str
    app_address: str
    bind_address: str
    api_host: str
    api_port: int
    sandbox: str
    base: dict[str, str]


def expand(text: str, values: dict[str, str]) -> str:
    """Replace `$(NAME)` by its value; unknown names stay as they are, `$$` is a dollar sign."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return values.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


async def environment(
    pod: Object, container: Object, place: Place, services: Iterable[Object], lookup: Lookup
) -> dict[str, str]:
    """All variables of a container; ConfigError when a ConfigMap, Secret or key is missing."""
    spec = pod["spec"]
    env = dict(place.base)
    env["HOSTNAME"] = spec.get("hostname") or pod["metadata"]["name"]
    if spec.get("enableServiceLinks", True):
        for service in services:
            env |= service_variables(service)
    env |= lab_variables(place)
    env |= await _from_sources(pod, container, lookup)
    addresses = (place.pod_address, place.node_address)
    for entry in container.get("env") or []:
        value = await _value(pod, container, entry, addresses, env, lookup)
        if value is not None:
            env[entry["name"]] = value
    base_path = place.base.get("PYTHONPATH", "")
    if env.get("PYTHONPATH", "") != base_path:
        env["PYTHONPATH"] = f"{env['PYTHONPATH']}:{base_path}"
    return env


def lab_variables(place: Place) -> dict[str, str]:
    """The contract of the embedded network; absent on real Kubernetes."""
    return {
        "KUBERNETES_SERVICE_HOST": place.api_host,
        "KUBERNETES_SERVICE_PORT": str(place.api_port),
        "KUBERNETES_SERVICE_PORT_HTTPS": str(place.api_port),
        "CONTAINER_SANDBOX_MOUNT_POINT": place.sandbox,
        "LAB_POD_ADDRESS": place.pod_address,
        "LAB_APP_ADDRESS": place.app_address,
        "LAB_BIND_ADDRESS": place.bind_address,
    }


def service_variables(service: Object) -> dict[str, str]:
    """REVIEWS_SERVICE_HOST and the like, for a Service with a cluster IP."""
    spec = service["spec"]
    address, ports = spec.get("clusterIP", ""), spec.get("ports") or []
    if address in ("", "None") or not ports:
        return {}
    name = service["metadata"]["name"].upper().replace("-", "_")
    found = {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            found[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    first = ports[0]
    protocol = first.get("protocol", "TCP").lower()
    found[f"{name}_PORT"] = f"{protocol}://{address}:{first['port']}"
    return found


async def _from_sources(pod: Object, container: Object, lookup: Lookup) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix", "")
        for field, resource in (("configMapRef", CONFIGMAPS), ("secretRef", SECRETS)):
            if ref := source.get(field):
                data = await _data(pod, resource, ref, lookup)
                found |= {prefix + name: value for name, value in (data or {}).items()}
    return found


async def _value(
    pod: Object,
    container: Object,
    entry: Object,
    addresses: tuple[str, str],
    env: dict[str, str],
    lookup: Lookup,
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value") or "", env)
    try:
        if ref := source.get("fieldRef"):
            return downward.field(pod, ref["fieldPath"], addresses)
        if ref := source.get("resourceFieldRef"):
            return downward.resource(container, ref["resource"], ref.get("divisor"))
    except downward.FieldError as error:
        raise ConfigError(str(error)) from error
    for field, resource in (("configMapKeyRef", CONFIGMAPS), ("secretKeyRef", SECRETS)):
        if ref := source.get(field):
            return await _key(pod, resource, ref, lookup)
    raise ConfigError(f"env {entry['name']}: valueFrom has no source that the embedded cluster knows")


async def _key(pod: Object, resource: Resource, ref: Object, lookup: Lookup) -> str | None:
    data = await _data(pod, resource, ref, lookup)
    if data is not None and ref["key"] in data:
        return data[ref["key"]]
    if ref.get("optional"):
        return None
    where = f"{resource.kind} {pod['metadata']['namespace']}/{ref['name']}"
    raise ConfigError(f"couldn't find key {ref['key']} in {where}")


async def _data(pod: Object, resource: Resource, ref: Object, lookup: Lookup) -> dict[str, str] | None:
    obj = await lookup(resource, pod["metadata"]["namespace"], ref["name"])
    if obj is None:
        if ref.get("optional"):
            return None
        raise ConfigError(f'{resource.kind.lower()} "{ref["name"]}" not found')
    return {name: value.decode(errors="replace") for name, value in data_of(obj).items()}


def data_of(obj: Object) -> dict[str, bytes]:
    """The entries of a ConfigMap or Secret, as bytes."""
    if obj.get("kind") == "Secret":
        return {name: base64.b64decode(value) for name, value in (obj.get("data") or {}).items()}
    plain = {name: value.encode() for name, value in (obj.get("data") or {}).items()}
    return plain | {name: base64.b64decode(value) for name, value in (obj.get("binaryData") or {}).items()}


def command(container: Object, env: dict[str, str]) -> list[str]:
    """The container's argv, with `$(NAME)` replaced. The lab's image has no entry point of its own."""
    parts = [*(container.get("command") or []), *(container.get("args") or [])]
    return [expand(part, env) for part in parts]
