"""AuthorizationPolicy: who may call what. Source: istio.io, Reference, Authorization Policy."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mesh.api.model import Model, WorkloadSelector
from mesh.api.problems import Problem
from mesh.api.scalars import header_problem

_JWT = "needs RequestAuthentication, which"
_NO_JWT: Mapping[str, str] = {"requestPrincipals": _JWT, "notRequestPrincipals": _JWT}


def _empty_values(model: Model) -> Iterator[Problem]:
    """No list may hold an empty text, and at least one list must be there."""
    filled = False
    for name, info in type(model).model_fields.items():
        values = getattr(model, name)
        filled = filled or bool(values)
        for index, value in enumerate(values):
            if not value:
                yield Problem(f"{info.alias}[{index}]", "must not be empty")
    if not filled:
        yield Problem("", "must not be empty")


def address_block_problem(block: str) -> str | None:
    """An address (`10.1.2.3`) or a block in CIDR notation (`10.1.0.0/16`)."""
    try:
        ipaddress.ip_network(block, strict=False)
    except ValueError:
        return f"must be an IP address or a block such as 10.1.0.0/16, not {block!r}"
    return None


def port_problem(text: str) -> str | None:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return None
    return f'must be a port number as text, such as "8080", not {text!r}'


class Source(Model):
    """Who sends the request; all fields given must hold. `*` at either end of a value is a wildcard."""

    unsupported: ClassVar[Mapping[str, str]] = {
        **_NO_JWT,
        "serviceAccounts": "use principals",
        "notServiceAccounts": "use notPrincipals",
        "remoteIpBlocks": "",
        "notRemoteIpBlocks": "",
        "trustDomains": "use principals",
        "notTrustDomains": "use notPrincipals",
    }
    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()

    def check(self) -> Iterator[Problem]:
        yield from _empty_values(self)
        for name, blocks in (("ipBlocks", self.ip_blocks), ("notIpBlocks", self.not_ip_blocks)):
            for index, block in enumerate(blocks):
                if block and (wrong := address_block_problem(block)):
                    yield Problem(f"{name}[{index}]", wrong)


class Operation(Model):
    """What the request asks for; all fields given must hold."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()

    def check(self) -> Iterator[Problem]:
        yield from _empty_values(self)
        for name, ports in (("ports", self.ports), ("notPorts", self.not_ports)):
            for index, port in enumerate(ports):
                if port and (wrong := port_problem(port)):
                    yield Problem(f"{name}[{index}]", wrong)
        for name, paths in (("paths", self.paths), ("notPaths", self.not_paths)):
            for index, path in enumerate(paths):
                if "{" in path or "}" in path:
                    yield Problem(f"{name}[{index}]", "path templates such as {*} are not supported yet")


class From(Model):
    source: Source


class To(Model):
    operation: Operation


#: Condition keys by what their values are.
_TEXT_KEYS = frozenset({"source.namespace", "source.principal"})
_HEADER_PREFIX, _HEADER_SUFFIX = "request.headers[", "]"
#: Keys Istio has and we do not honour yet.
_UNSUPPORTED_KEYS = (
    "remote.ip",
    "request.auth.",
    "destination.ip",
    "connection.sni",
    "experimental.",
    "source.serviceAccount",
    "source.trustDomain",
)


class Condition(Model):
    """One more thing that must hold: the attribute `key` has one of `values` and none of `notValues`."""

    key: str = Field(min_length=1)
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()

    @property
    def header(self) -> str | None:
        """The header name when the key is request.headers[NAME]."""
        if self.key.startswith(_HEADER_PREFIX) and self.key.endswith(_HEADER_SUFFIX):
            return self.key[len(_HEADER_PREFIX) : -1]
        return None

    def check(self) -> Iterator[Problem]:
        if not self.values and not self.not_values:
            yield Problem("", f"needs values or notValues for {self.key}")
        if any(self.key.startswith(key) for key in _UNSUPPORTED_KEYS):
            yield Problem("key", f"{self.key} is not supported yet")
        elif (header := self.header) is not None:
            if wrong := header_problem(header):
                yield Problem("key", wrong)
        elif self.key not in _TEXT_KEYS | {"source.ip", "destination.port"}:
            yield Problem("key", f"{self.key!r} is no attribute such as source.ip or request.headers[NAME]")
        yield from self._value_problems()

    def _value_problems(self) -> Iterator[Problem]:
        checks = {"source.ip": address_block_problem, "destination.port": port_problem}
        for name, values in (("values", self.values), ("notValues", self.not_values)):
            for index, value in enumerate(values):
                wrong = "must not be empty" if not value else None
                if value and self.key in checks:
                    wrong = checks[self.key](value)
                if wrong:
                    yield Problem(f"{name}[{index}]", wrong)


class Rule(Model):
    """Holds if any of `from`, any of `to` and all of `when` hold; a part left out always holds."""

    from_: tuple[From, ...] = Field(default=(), alias="from")
    to: tuple[To, ...] = ()
    when: tuple[Condition, ...] = ()

    def check(self) -> Iterator[Problem]:
        for name, alias in (("from_", "from"), ("to", "to")):
            if name in self.model_fields_set and not getattr(self, name):
                yield Problem(alias, "must not be an empty list; leave it out to allow any")


class AuthorizationPolicySpec(Model):
    """No rules and ALLOW denies everything; one empty rule allows everything. DENY decides before ALLOW."""

    unsupported: ClassVar[Mapping[str, str]] = {"targetRef": "", "targetRefs": "", "provider": ""}

    selector: WorkloadSelector | None = None
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    rules: tuple[Rule, ...] = ()

    def check(self) -> Iterator[Problem]:
        if self.action == "CUSTOM":
            yield Problem("action", "CUSTOM is not supported yet")
        if self.action == "DENY" and not self.rules:
            yield Problem("rules", "DENY without rules never denies; one empty rule {} denies everything")
