"""VirtualService: what happens to a request for a host. Source: istio.io, Reference, Virtual Service."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.alias_generators import to_camel

from mesh.api.http_route import HeaderOperations, Headers, HTTPRoute, HTTPRouteDestination
from mesh.api.model import Model, export_to_problems
from mesh.api.problems import Problem
from mesh.api.scalars import host_problem, is_dns_label
from mesh.api.tcp_routes import TCPRoute, TLSRoute

MESH = "mesh"  # the name that stands for all sidecars in `gateways`


class VirtualServiceSpec(Model):
    """Routing for `hosts`, in the sidecars (gateway `mesh`, the default) or in the gateways named."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()

    @property
    def gateway_names(self) -> tuple[str, ...]:
        return self.gateways or (MESH,)

    def check(self) -> Iterator[Problem]:
        if not (self.http or self.tls or self.tcp):
            yield Problem("", "needs at least one rule in http, tls or tcp")
        yield from self._as_delegate() if not self.hosts else ()
        for index, host in enumerate(self.hosts):
            if wrong := host_problem(host):
                yield Problem(f"hosts[{index}]", wrong)
            elif host == "*" and MESH in self.gateway_names:
                yield Problem(
                    f"hosts[{index}]", "* cannot be for the mesh gateway; name the gateways it is for"
                )
        if len(set(self.hosts)) < len(self.hosts):
            yield Problem("hosts", "names a host twice")
        for index, gateway in enumerate(self.gateways):
            if wrong := gateway_name_problem(gateway):
                yield Problem(f"gateways[{index}]", wrong)
        yield from self._rule_problems()
        yield from export_to_problems(self.export_to)

    def _as_delegate(self) -> Iterator[Problem]:
        """One without hosts is there for others to delegate to, and only their http rules can."""
        if not self.http:
            yield Problem("hosts", "must have at least one entry")
        for name in ("gateways", "tls", "tcp"):
            if getattr(self, name):
                yield Problem(name, "needs hosts (without hosts this is only for others to delegate to)")
        for index, rule in enumerate(self.http):
            if rule.delegate:
                yield Problem(
                    f"http[{index}].delegate", "a VirtualService without hosts cannot delegate further"
                )

    def _rule_problems(self) -> Iterator[Problem]:
        in_mesh = MESH in self.gateway_names
        for index, rule in enumerate(self.http):
            for number, match in enumerate(rule.match):
                for field in ("headers", "without_headers"):
                    for header in getattr(match, field):
                        if header.startswith("@request.auth.") and in_mesh:
                            place = f"http[{index}].match[{number}].{to_camel(field)}[{header}]"
                            yield Problem(place, "matches on token claims work at gateways only; name them")
        for index, tls in enumerate(self.tls):
            for number, sni in enumerate(tls.match):
                for which, host in enumerate(sni.sni_hosts):
                    if not any(covers(pattern, host) for pattern in self.hosts):
                        place = f"tls[{index}].match[{number}].sniHosts[{which}]"
                        yield Problem(place, f"{host!r} is covered by none of the hosts")


def covers(pattern: str, host: str) -> bool:
    """Does a host pattern (`*`, `*.example.com`, a name) cover a host or a narrower pattern?"""
    return pattern in ("*", host) or (
        pattern.startswith("*") and len(host) >= len(pattern) and host.endswith(pattern[1:])
    )


def gateway_name_problem(name: str) -> str | None:
    """A gateway is `mesh`, a name, or `namespace/name`."""
    namespace, _, bare = name.rpartition("/")
    if not bare or host_problem(bare, wildcard=False):
        return f"must be mesh, NAME or NAMESPACE/NAME, not {name!r}"
    if "/" in name and namespace != "." and not is_dns_label(namespace):
        return f"must be mesh, NAME or NAMESPACE/NAME, not {name!r}"
    return None


__all__ = [
    "MESH",
    "HTTPRoute",
    "HTTPRouteDestination",
    "HeaderOperations",
    "Headers",
    "VirtualServiceSpec",
]
