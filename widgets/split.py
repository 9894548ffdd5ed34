"""Weights in a VirtualService: what it says each version should get, and the same object with other weights.

Pure functions on the object as the API gives it. Only the default route is meant, the one without a `match`:
the rules before it that serve somebody special are the person's and stay as they are. Source: Istio
reference, Traffic Management, VirtualService (HTTPRoute, HTTPRouteDestination).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any

Object = dict[str, Any]

API_VERSION = "networking.istio.io/v1"


def default_route(service: Object) -> Object | None:
    """The first HTTP route that every request matches, or None."""
    for route in service.get("spec", {}).get("http") or []:
        if not route.get("match"):
            return dict(route)
    return None


def intended(service: Object | None) -> dict[str, float]:
    """The share (0 to 1) that each subset is to get of the requests no special rule takes.

    Empty where nothing is said: no object, no default route, or destinations without a subset.
    """
    route = default_route(service) if service else None
    destinations = (route or {}).get("route") or []
    subsets = [d.get("destination", {}).get("subset") for d in destinations]
    if not subsets or not all(subsets):
        return {}
    weights = [int(d.get("weight") or 0) for d in destinations]
    if len(destinations) == 1:
        weights = [1]  # "if there is only one destination, all traffic goes to it"
    total = sum(weights)
    shares = dict.fromkeys(map(str, subsets), 0.0)
    for subset, weight in zip(subsets, weights, strict=True):
        shares[str(subset)] += weight / total if total else 0.0
    return shares


def changed_at(service: Object | None) -> float | None:
    """When the object's spec was last changed: seconds since the epoch, rounded up, as the API server notes it.

    None where it notes nothing. Source: Kubernetes API, ObjectMeta.managedFields.
    """
    fields = (service or {}).get("metadata", {}).get("managedFields") or []
    times = [entry["time"] for entry in fields if entry.get("time") and not entry.get("subresource")]
    return datetime.fromisoformat(max(times)).timestamp() + 1 if times else None


def split(host: str, weights: Mapping[str, int], namespace: str = "default") -> Object:
    """A VirtualService that splits all requests to `host` between subsets by weight (per cent)."""
    return {
        "apiVersion": API_VERSION,
        "kind": "VirtualService",
        "metadata": {"name": host, "namespace": namespace},
        "spec": {"hosts": [host], "http": [{"route": _destinations(host, weights)}]},
    }


def with_weights(service: Object | None, host: str, weights: Mapping[str, int], namespace: str) -> Object:
    """The VirtualService with other weights in its default route; a new one where there is none.

    What the API server added (status, resourceVersion, managed fields) is left out, so that it can be
    applied.
    """
    if not service:
        return split(host, weights, namespace)
    meta = service["metadata"]
    changed: Object = {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "metadata": {"name": meta["name"], "namespace": meta.get("namespace", namespace)},
        "spec": deepcopy(service["spec"]),
    }
    routes: list[Object] = changed["spec"].setdefault("http", [])
    for route in routes:
        if not route.get("match"):
            route["route"] = _destinations(host, weights)
            return changed
    routes.append({"route": _destinations(host, weights)})
    return changed


def _destinations(host: str, weights: Mapping[str, int]) -> list[Object]:
    return [
        {"destination": {"host": host, "subset": subset}, "weight": weight}
        for subset, weight in weights.items()
    ]
