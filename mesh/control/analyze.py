"""What is doubtful between objects that are each valid alone: references to nothing, conflicts, rules never reached.

Codes are those of `istioctl analyze` (istio.io, Reference, Configuration Analysis). Findings become admission
warnings, the `status` of objects and the output of `mesh analyze`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mesh.api.http_route import HTTPRoute
from mesh.api.matching import HTTPMatchRequest
from mesh.api.model import WorkloadSelector
from mesh.api.objects import ConfigObject
from mesh.api.routing import Destination
from mesh.api.virtual_service import MESH
from mesh.control.compile.delegates import delegate_of, join
from mesh.control.compile.matches import is_catch_all
from mesh.control.compile.naming import host_matches, resolve
from mesh.control.compile.visibility import VirtualService, destination_rule_for, exported, fits
from mesh.control.registry import by_hostname
from mesh.control.world import World

Level = Literal["Error", "Warning", "Info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One doubt: `code` as Istio's (IST0101 ...), the object it is about, the path inside it, one sentence."""

    code: str
    level: Level
    kind: str
    namespace: str
    name: str
    path: str
    sentence: str

    def __str__(self) -> str:
        place = f"{self.kind} {self.namespace}/{self.name}"
        return f"{self.level} [{self.code}] ({place}) {self.path}: {self.sentence}"


def analyze(world: World) -> list[Finding]:
    """Every finding about every object, in a stable order. Pure."""
    found: list[Finding] = []
    for vs in world.virtual_services:
        found.extend(_virtual_service(world, vs))
    found.extend(_conflicting_hosts(world))
    for rule in world.destination_rules:
        host = resolve(rule.spec.host, rule.namespace, world.mesh.cluster_domain)
        if host not in by_hostname(world) and not any(
            host_matches(host, name) for name in _wild(host, world)
        ):
            said = f"no service has the host {rule.spec.host!r}" + _hint(world, host)
            found.append(_finding("IST0101", "Error", rule, "spec.host", said))
    found.extend(_selectors(world))
    found.extend(_credentials(world))
    return found


def _credentials(world: World) -> Iterator[Finding]:
    """Secrets that gateways are to present and that are not there: their TLS ports do not answer until they are."""
    for gateway in world.gateways:
        pods = [pod for pod in world.workloads.values() if fits(gateway.spec.selector, pod.labels)]
        for index, server in enumerate(gateway.spec.servers):
            for name in server.tls.credentials if server.tls else ():
                there = [
                    (pod.namespace, name.removeprefix(f"{pod.namespace}/")) in world.secrets for pod in pods
                ]
                if pods and not all(there):
                    said = f"there is no Secret {name!r} with a certificate in {pods[0].namespace}; nobody is served"
                    yield _finding(
                        "IST0101", "Error", gateway, f"spec.servers[{index}].tls.credentialName", said
                    )


def _wild(host: str, world: World) -> Iterable[str]:
    """The names a pattern has to be compared with; none if it is no pattern."""
    return by_hostname(world) if host.startswith("*") else ()


def findings_about(world: World, kind: str, namespace: str, name: str) -> list[Finding]:
    """The findings about one object."""
    return [f for f in analyze(world) if (f.kind, f.namespace, f.name) == (kind, namespace, name)]


def _finding(code: str, level: Level, about: ConfigObject[Any], path: str, sentence: str) -> Finding:
    return Finding(code, level, about.kind, about.namespace, about.name, path, sentence)


def _virtual_service(world: World, vs: VirtualService) -> Iterator[Finding]:
    for index, rule in enumerate(vs.spec.http):
        for path, destination in _destinations(rule, f"spec.http[{index}]"):
            yield from _destination(world, vs, path, destination)
    if (vs.spec.tls or vs.spec.tcp) and MESH in vs.spec.gateway_names and world.mesh.interception == "NONE":
        said = "tcp and tls routes reach sidecars only with interception REDIRECT, or through a Sidecar's egress port"
        yield _finding("IST0133", "Warning", vs, "spec.tcp" if vs.spec.tcp else "spec.tls", said)
    yield from _delegates(world, vs)
    yield from _gateways(world, vs)
    yield from _unreachable(vs)


def _delegates(world: World, vs: VirtualService) -> Iterator[Finding]:
    there = {(each.namespace, each.name): each for each in world.virtual_services}
    for index, rule in enumerate(vs.spec.http):
        key = delegate_of(vs, rule)
        if key is None:
            continue
        part = there.get(key)
        if part is None or part.spec.hosts:
            said = f"there is no VirtualService {'/'.join(key)} without hosts; the rule is passed over until there is"
            yield _finding("IST0101", "Error", vs, f"spec.http[{index}].delegate", said)
            continue
        for below in part.spec.http:
            if join(rule, below) is None:
                said = f"a condition of {'/'.join(key)} is not within this rule's, so it can never hold"
                yield _finding("IST0130", "Warning", vs, f"spec.http[{index}].delegate", said)


def _destinations(rule: HTTPRoute, path: str) -> Iterator[tuple[str, Destination]]:
    for index, target in enumerate(rule.route):
        yield f"{path}.route[{index}].destination", target.destination
    if rule.mirror:
        yield f"{path}.mirror", rule.mirror
    for index, mirror in enumerate(rule.mirrors):
        yield f"{path}.mirrors[{index}].destination", mirror.destination


def _destination(world: World, vs: VirtualService, path: str, to: Destination) -> Iterator[Finding]:
    """A route to what is not there answers 503 with the flag NC until it comes."""
    hostname = resolve(to.host, vs.namespace, world.mesh.cluster_domain)
    service = by_hostname(world).get(hostname)
    if service is None:
        said = f"no service has the host {to.host!r}; requests get 503 (NC) until one has" + _hint(
            world, hostname
        )
        yield _finding("IST0101", "Error", vs, f"{path}.host", said)
        return
    if not exported(service.export_to, service.namespace, vs.namespace):
        yield _finding(
            "IST0101", "Error", vs, f"{path}.host", f"{to.host!r} is not exported to {vs.namespace}"
        )
    numbers = [port.port for port in service.ports]
    if to.port and to.port.number not in numbers:
        said = f"{to.host!r} has no port {to.port.number}, only {', '.join(map(str, numbers))}"
        yield _finding("IST0101", "Error", vs, f"{path}.port.number", said)
    elif not to.port and len(numbers) > 1:
        said = f"{to.host!r} has several ports, so the one of the request is taken; better say which"
        yield _finding("IST0112", "Warning", vs, f"{path}.port", said)
    if to.subset:
        rule = destination_rule_for(world, vs.namespace, service)
        if rule is None or to.subset not in rule.subsets:
            said = f"no DestinationRule defines the subset {to.subset!r} of {to.host!r}; "
            yield _finding(
                "IST0101", "Error", vs, f"{path}.subset", said + "requests get 503 (NC) until one does"
            )


def _hint(world: World, host: str) -> str:
    """`reviews.default` is read as a name on the internet: only a name without dots is completed (as in Istio)."""
    full = f"{host}.svc.{world.mesh.cluster_domain}"
    return f"; did you mean {full}?" if full in by_hostname(world) else ""


def _gateways(world: World, vs: VirtualService) -> Iterator[Finding]:
    by_name = {f"{gateway.namespace}/{gateway.name}": gateway for gateway in world.gateways}
    for index, name in enumerate(vs.spec.gateways):
        if name == MESH:
            continue
        bare = name.removeprefix("./")
        gateway = by_name.get(bare if "/" in bare else f"{vs.namespace}/{bare}")
        if gateway is None:
            said = f"there is no Gateway {name!r}; it serves nothing of this until there is one"
            yield _finding("IST0101", "Error", vs, f"spec.gateways[{index}]", said)
            continue
        patterns = [host.rpartition("/")[2] for server in gateway.spec.servers for host in server.hosts]
        for number, host in enumerate(vs.spec.hosts):
            if not any(host_matches(p, host) or host_matches(host, p) for p in patterns):
                said = f"the Gateway {name!r} does not serve the host {host!r}"
                yield _finding("IST0132", "Warning", vs, f"spec.hosts[{number}]", said)


def _unreachable(vs: VirtualService) -> Iterator[Finding]:
    """Rules behind one that takes every request, and conditions that stand there already."""
    taken_by: int | None = None
    seen: dict[str, int] = {}
    for index, rule in enumerate(vs.spec.http):
        path = f"spec.http[{index}]"
        if taken_by is not None:
            said = f"is never reached: http[{taken_by}] takes every request before it"
            yield _finding("IST0130", "Warning", vs, path, said)
            continue
        for number, match in enumerate(rule.match):
            first = seen.setdefault(_condition(match), index)
            if first != index:
                said = f"is never reached: http[{first}] has the same condition"
                yield _finding("IST0131", "Info", vs, f"{path}.match[{number}]", said)
        if not rule.match or any(_is_unconditional(match) for match in rule.match):
            taken_by = index


def _is_unconditional(match: HTTPMatchRequest) -> bool:
    """A catch-all for every proxy and port, not only for some."""
    partial = (match.port, match.source_labels, match.source_namespace, match.gateways)
    return is_catch_all(match) and not any(partial)


def _condition(match: HTTPMatchRequest) -> str:
    return match.model_copy(update={"name": ""}).model_dump_json(exclude_defaults=True)


def _conflicting_hosts(world: World) -> Iterator[Finding]:
    """Two VirtualServices of the mesh for one host: only the older one counts."""
    first: dict[str, VirtualService] = {}
    for vs in world.virtual_services:
        if MESH not in vs.spec.gateway_names or not vs.spec.hosts:
            continue
        for index, host in enumerate(vs.spec.hosts):
            name = resolve(host, vs.namespace, world.mesh.cluster_domain)
            other = first.setdefault(name, vs)
            if other is not vs and _meet(vs, other):
                said = f"VirtualService {other.namespace}/{other.name} is older and has the host {host!r} already"
                yield _finding("IST0109", "Error", vs, f"spec.hosts[{index}]", said)


def _meet(one: VirtualService, other: VirtualService) -> bool:
    """Is there a namespace that sees both?"""
    if one.namespace == other.namespace:
        return True
    names = {one.namespace, other.namespace, *one.spec.export_to, *other.spec.export_to} - {"*", "."}
    return any(all(exported(vs.spec.export_to, vs.namespace, name) for vs in (one, other)) for name in names)


def _selectors(world: World) -> Iterator[Finding]:
    """Gateways and policies that select no pod there is now."""
    for gateway in world.gateways:
        if not any(fits(gateway.spec.selector, pod.labels) for pod in world.workloads.values()):
            said = "selects no workload there is now, so nothing listens for it"
            yield _finding("IST0101", "Error", gateway, "spec.selector", said)
    chosen: list[tuple[ConfigObject[Any], WorkloadSelector | None]] = []
    chosen += [(policy, policy.spec.selector) for policy in world.peer_authentications]
    chosen += [(policy, policy.spec.selector) for policy in world.authorization_policies]
    for policy, selector in chosen:
        if selector is None or not selector.match_labels:
            continue
        everywhere = policy.kind == "AuthorizationPolicy" and policy.namespace == world.mesh.root_namespace
        pods = (p for p in world.workloads.values() if everywhere or p.namespace == policy.namespace)
        if not any(selector.selects(pod.labels) for pod in pods):
            said = "selects no workload there is now"
            yield _finding("IST0127", "Warning", policy, "spec.selector", said)
