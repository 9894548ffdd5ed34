"""Puts the parts together: changes of Kubernetes objects in, the next World out, with all that did not
change kept.

After `ingest`, before `debounce`. It remembers which pods stand behind which Service, so that a change
touches what depends on it and nothing else; the cost of a change grows with what changed, not with what
exists.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mesh.api import BY_NAME, ConfigObject, Invalid, parse
from mesh.control import ingest
from mesh.control.kube import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    Object,
    Resource,
)
from mesh.control.watch import Changes, Key
from mesh.control.world import Credential, Endpoint, Namespace, Service, ServiceKey, Workload, World

log = logging.getLogger(__name__)

MESH_CONFIG = "mesh"
"""Name of the ConfigMap with the mesh's settings, and of the key in it."""

KIND_OF: Mapping[Resource, str] = {
    Resource(kind.group, kind.versions[0], kind.plural): kind.name for kind in BY_NAME.values()
}
"""The collections of rules, each watched in the version that is stored."""

R = TypeVar("R")


class Assembler:
    """Everything known of the cluster. `apply` changes, then ask for the `world`."""

    def __init__(self, world: World | None = None) -> None:
        self._world = world or World()
        self._namespaces: dict[str, Namespace] = {}
        self._services: dict[ServiceKey, Service] = {}
        self._workloads: dict[Key, Workload] = {}
        self._secrets: dict[Key, Credential] = {}
        self._slices: dict[Key, Object] = {}
        self._slices_of: dict[ServiceKey, set[Key]] = {}
        self._slices_of_pod: dict[Key, set[Key]] = {}
        self._endpoints: dict[ServiceKey, tuple[Endpoint, ...]] = {}
        self._config: dict[str, dict[Key, ConfigObject[Any]]] = {kind: {} for kind in BY_NAME}
        self.rules: dict[tuple[str, str, str], Object] = {}
        """Every rule as it was last seen, by kind, namespace and name."""
        self.invalid: dict[tuple[str, str, str], Invalid] = {}
        """Rules that were stored although they are invalid (before our webhook was there): why."""
        self._stale_endpoints: set[ServiceKey] = set()
        self._stale: set[str] = set()

    def apply(self, resource: Resource, changes: Changes) -> bool:
        """Take changes of one collection in. False when they mean nothing to the mesh."""
        if resource in KIND_OF:
            return self._apply_rules(KIND_OF[resource], changes)
        take = {
            NAMESPACES: self._apply_namespaces,
            SERVICES: self._apply_services,
            PODS: self._apply_pods,
            ENDPOINT_SLICES: self._apply_slices,
            CONFIG_MAPS: self._apply_mesh_config,
            SECRETS: self._apply_secrets,
        }[resource]
        take(changes)
        return bool(self._stale or self._stale_endpoints)

    @property
    def world(self) -> World:
        """The world with all changes so far; the same object as long as there are none."""
        self._refresh_endpoints()
        parts: dict[str, Callable[[], Any]] = {
            "namespaces": lambda: dict(self._namespaces),
            "services": lambda: dict(self._services),
            "workloads": lambda: dict(self._workloads),
            "endpoints": lambda: dict(self._endpoints),
            "secrets": lambda: dict(self._secrets),
            "config": lambda: {**self._world.config, **self._changed_config()},
        }
        if self._stale:
            self._world = self._world.evolve(**{part: parts[part]() for part in parts if part in self._stale})
            self._stale.clear()
        return self._world

    def _changed_config(self) -> dict[str, Mapping[Key, ConfigObject[Any]]]:
        """The kinds of rules that changed; the others keep their mapping."""
        return {
            kind: dict(found)
            for kind, found in self._config.items()
            if kind in self._stale or kind not in self._world.config
        }

    def _apply_namespaces(self, changes: Changes) -> None:
        for (_, name), obj in changes.items():
            self._put("namespaces", self._namespaces, name, ingest.namespace(obj) if obj else None)

    def _apply_services(self, changes: Changes) -> None:
        domain = self._world.mesh.cluster_domain
        for key, obj in changes.items():
            self._put("services", self._services, key, ingest.service(obj, domain) if obj else None)

    def _apply_pods(self, changes: Changes) -> None:
        for key, pod in changes.items():
            if self._put("workloads", self._workloads, key, ingest.workload(pod) if pod else None):
                slices = (self._slices[one] for one in self._slices_of_pod.get(key, ()))
                self._stale_endpoints |= {found for one in slices if (found := ingest.slice_service(one))}

    def _apply_secrets(self, changes: Changes) -> None:
        for key, obj in changes.items():
            self._put("secrets", self._secrets, key, ingest.credential(obj) if obj else None)

    def take_keys(self, keys: Mapping[tuple[str, str], str]) -> None:
        """Keys of token issuers have been fetched (`jwks`)."""
        self._world = self._world.evolve(jwks=dict(keys))

    def _apply_slices(self, changes: Changes) -> None:
        for key, obj in changes.items():
            if (old := self._slices.pop(key, None)) is not None:
                self._index_slice(key, old, set.discard)
            if obj is not None:
                self._slices[key] = obj
                self._index_slice(key, obj, set.add)

    def _index_slice(self, key: Key, obj: Object, change: Callable[[set[Key], Key], None]) -> None:
        """Add a slice to (or discard it from) what is known of its Service and of its pods."""
        service = ingest.slice_service(obj)
        if service is None:
            return
        self._stale_endpoints.add(service)
        change(self._slices_of.setdefault(service, set()), key)
        for pod in ingest.slice_pods(obj):
            slices = self._slices_of_pod.setdefault(pod, set())
            change(slices, key)
            if not slices:
                del self._slices_of_pod[pod]

    def _apply_mesh_config(self, changes: Changes) -> None:
        for (_, name), obj in changes.items():
            if name != MESH_CONFIG or obj is None:
                continue
            try:
                mesh = ingest.mesh_config((obj.get("data") or {}).get(MESH_CONFIG) or "")
            except (ingest.ConfigError, TypeError, ValueError, KeyError, AttributeError) as error:
                log.error("ConfigMap %s: %s; the settings stay as they were", MESH_CONFIG, error)
                continue
            if mesh != self._world.mesh:
                self._world = self._world.evolve(mesh=mesh)
                self._stale.add("mesh")

    def _refresh_endpoints(self) -> None:
        for service in self._stale_endpoints:
            slices = [self._slices[key] for key in sorted(self._slices_of.get(service, ()))]
            found = ingest.endpoints(slices, self._workloads) if slices else None
            old = {_place(one): one for one in self._endpoints.get(service, ())}
            if found is not None:  # an endpoint that did not change stays the same object
                found = tuple(old[_place(one)] if old.get(_place(one)) == one else one for one in found)
            self._put("endpoints", self._endpoints, service, found)
        self._stale_endpoints.clear()

    def _apply_rules(self, kind: str, changes: Changes) -> bool:
        changed = False
        for key, obj in changes.items():
            changed |= self._forget_rule(kind, key) if obj is None else self._take_rule(kind, key, obj)
        if changed:
            self._stale |= {"config", kind}
        return changed

    def _forget_rule(self, kind: str, key: Key) -> bool:
        self.rules.pop((kind, *key), None)
        self.invalid.pop((kind, *key), None)
        return self._config[kind].pop(key, None) is not None

    def _take_rule(self, kind: str, key: Key, obj: Object) -> bool:
        """An update of the status alone is none. An invalid update leaves the rule as it was, and is
        remembered.
        """
        old, self.rules[kind, *key] = self.rules.get((kind, *key)), obj
        if old is not None and _what_counts(old) == _what_counts(obj):
            return False
        try:
            self._config[kind][key] = parse(obj)
        except Invalid as invalid:
            self.invalid[(kind, *key)] = invalid
            log.warning("%s", invalid)
            return False
        self.invalid.pop((kind, *key), None)
        return True

    def _put(self, part: str, records: dict[Any, R], key: Any, new: R | None) -> bool:
        """Store a record unless it is equal to the old one, which then stays the same object."""
        if records.get(key) == new:
            return False
        if new is None:
            del records[key]
        else:
            records[key] = new
        self._stale.add(part)
        return True


def _what_counts(obj: Object) -> tuple[Any, ...]:
    """The parts of a rule that can change what it does."""
    metadata = obj["metadata"]
    return (
        obj.get("spec"),
        metadata.get("uid"),
        metadata.get("generation"),
        metadata.get("labels"),
        metadata.get("annotations"),
    )


def _place(one: Endpoint) -> tuple[str, str, int]:
    return one.port_name, one.address, one.port
