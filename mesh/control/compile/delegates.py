"""VirtualServices that delegate: a rule says for which requests, another VirtualService (without hosts) says what.

Here the two are made one, so that nothing after this knows of delegates. Conditions are joined (both must hold; a
condition of the delegate that is wider than the root's makes the pair impossible), what the delegate leaves unsaid is
taken from the root's rule. Source: istio.io, Reference, Virtual Service, Delegate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh.api.http_route import HTTPRoute
from mesh.api.matching import HTTPMatchRequest, StringMatch
from mesh.api.objects import ConfigObject
from mesh.api.routing import Destination
from mesh.api.virtual_service import VirtualServiceSpec
from mesh.control.compile.naming import resolve
from mesh.control.world import World

VirtualService = ConfigObject[VirtualServiceSpec]
_INHERITED = (
    *("rewrite", "timeout", "retries", "fault", "mirror", "mirror_percentage", "mirrors", "cors_policy"),
    *("headers", "direct_response", "redirect"),
)


def whole_virtual_services(world: World) -> tuple[VirtualService, ...]:
    """All VirtualServices with hosts, oldest first, their delegates worked in."""
    listed = world.virtual_services

    def build() -> tuple[VirtualService, ...]:
        parts = {(vs.namespace, vs.name): vs for vs in listed if not vs.spec.hosts}
        return tuple(_whole(world, vs, parts) for vs in listed if vs.spec.hosts)

    return world.memo.get("whole virtual services", (listed, world.mesh), build)


def delegate_of(vs: VirtualService, rule: HTTPRoute) -> tuple[str, str] | None:
    """Namespace and name of the VirtualService a rule delegates to."""
    return (rule.delegate.namespace or vs.namespace, rule.delegate.name) if rule.delegate else None


def _whole(
    world: World, vs: VirtualService, parts: Mapping[tuple[str, str], VirtualService]
) -> VirtualService:
    wanted = [delegate_of(vs, rule) for rule in vs.spec.http]
    if not any(wanted):
        return vs
    found = [parts.get(key) if key else None for key in wanted]
    visible = tuple(part if part is not None and _exported(part, vs) else None for part in found)

    def build() -> VirtualService:
        rules = tuple(_rules(world, vs, visible))
        return ConfigObject(
            kind=vs.kind,
            namespace=vs.namespace,
            name=vs.name,
            spec=vs.spec.model_copy(update={"http": rules}),
            created=vs.created,
        )

    return world.memo.get(("whole", vs.namespace, vs.name), (vs, world.mesh, *visible), build)


def _exported(part: VirtualService, root: VirtualService) -> bool:
    listed = part.spec.export_to
    own = part.namespace == root.namespace
    return not listed or "*" in listed or root.namespace in listed or ("." in listed and own)


def _rules(world: World, vs: VirtualService, parts: tuple[VirtualService | None, ...]) -> Iterator[HTTPRoute]:
    """A rule whose delegate is not there is left out: the request goes on to the next (as in Istio)."""
    for rule, part in zip(vs.spec.http, parts, strict=True):
        if rule.delegate is None:
            yield rule
            continue
        for below in part.spec.http if part else ():
            joined = join(rule, below)
            if joined is not None and part is not None:
                yield _at_home(joined, part.namespace, world.mesh.cluster_domain)


def join(root: HTTPRoute, below: HTTPRoute) -> HTTPRoute | None:
    """One rule out of two; None when their conditions cannot both hold."""
    matches = _joined_matches(root.match, below.match)
    if matches is None:
        return None
    name = "-".join(part for part in (root.name, below.name) if part)
    taken = {field: getattr(root, field) for field in _INHERITED if not getattr(below, field)}
    return below.model_copy(update={**taken, "match": matches, "name": name})


def _joined_matches(
    roots: tuple[HTTPMatchRequest, ...], leaves: tuple[HTTPMatchRequest, ...]
) -> tuple[HTTPMatchRequest, ...] | None:
    """Every condition of the delegate with each of the root's it fits; None if one fits none."""
    if not roots or not leaves:
        return leaves or roots
    joined: list[HTTPMatchRequest] = []
    for leaf in leaves:
        pairs = [_join_match(root, leaf) for root in roots if not conflict(root, leaf)]
        if not pairs:
            return None
        joined += pairs
    return tuple(joined)


def _join_match(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> HTTPMatchRequest:
    single = ("uri", "scheme", "method", "authority", "port", "source_namespace", "gateways", "stat_prefix")
    update: dict[str, Any] = {name: getattr(leaf, name) or getattr(root, name) for name in single}
    for name in ("headers", "without_headers", "query_params", "source_labels"):
        update[name] = {**getattr(root, name), **getattr(leaf, name)}
    update["name"] = "-".join(part for part in (root.name, leaf.name) if part)
    return leaf.model_copy(update=update)


def conflict(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> bool:
    """Is the delegate's condition not within the root's?"""
    for name in ("uri", "scheme", "method", "authority"):
        if _wider(getattr(root, name), getattr(leaf, name)):
            return True
    for name in ("headers", "without_headers", "query_params"):
        above = getattr(root, name)
        if any(_wider(above.get(key), match) for key, match in getattr(leaf, name).items()):
            return True
    if root.ignore_uri_case != leaf.ignore_uri_case:
        return True
    if root.port and leaf.port and root.port != leaf.port:
        return True
    if root.source_namespace and leaf.source_namespace != root.source_namespace:
        return True
    if any(root.source_labels.get(key, value) != value for key, value in leaf.source_labels.items()):
        return True
    return bool(root.gateways and set(leaf.gateways) - set(root.gateways))


def _wider(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    if root is None or leaf is None:
        return False
    if root.regex or leaf.regex or root.is_empty or leaf.is_empty:
        return True
    if root.exact is not None:
        return leaf.exact != root.exact
    return not (leaf.exact if leaf.exact is not None else leaf.prefix or "").startswith(root.prefix or "")


def _at_home(rule: HTTPRoute, namespace: str, domain: str) -> HTTPRoute:
    """Short host names mean services of the delegate's own namespace, so they are written out here."""

    def full(to: Destination) -> Destination:
        return to.model_copy(update={"host": resolve(to.host, namespace, domain)})

    return rule.model_copy(
        update={
            "route": tuple(t.model_copy(update={"destination": full(t.destination)}) for t in rule.route),
            "mirrors": tuple(m.model_copy(update={"destination": full(m.destination)}) for m in rule.mirrors),
            "mirror": full(rule.mirror) if rule.mirror else None,
        }
    )
