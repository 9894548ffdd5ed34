"""AuthorizationPolicy: who may call what. Source: istio.io, Reference, Authorization Policy."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mesh.api.model import Model, WorkloadSelector
from mesh.api.problems import Problem
from mesh.api.scalars import header_problem


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

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()

    @property
    def asks_identity(self) -> bool:
        """Does it look at the peer's certificate or the user's token?"""
        peer = (self.principals, self.not_principals, self.namespaces, self.not_namespaces)
        user = (self.request_principals, self.not_request_principals)
        accounts = (self.service_accounts, self.not_service_accounts)
        return any((*peer, *user, *accounts, self.trust_domains, self.not_trust_domains))

    def check(self) -> Iterator[Problem]:
        yield from _empty_values(self)
        accounts = {"serviceAccounts": self.service_accounts, "notServiceAccounts": self.not_service_accounts}
        others = (self.principals, self.not_principals, self.namespaces, self.not_namespaces)
        for name, values in accounts.items():
            if values and any(others):
                yield Problem(name, "cannot stand beside principals and namespaces")
            for index, value in enumerate(values):
                if value and (value.count("/") > 1 or "*" in value or "" in value.split("/")):
                    yield Problem(f"{name}[{index}]", f"must be NAME or NAMESPACE/NAME, not {value!r}")
        for name, blocks in (
            ("ipBlocks", self.ip_blocks),
            ("notIpBlocks", self.not_ip_blocks),
            ("remoteIpBlocks", self.remote_ip_blocks),
            ("notRemoteIpBlocks", self.not_remote_ip_blocks),
        ):
            for index, block in enumerate(blocks):
                if block and (wrong := address_block_problem(block)):
                    yield Problem(f"{name}[{index}]", wrong)


def is_template(path: str) -> bool:
    """Has it braces, as in `/users/{*}/profile`?"""
    return "{" in path or "}" in path


def template_problem(path: str) -> str | None:
    """`{*}` stands for one segment of a path, `{**}` for any number of them. Envoy, UriTemplateMatchConfig."""
    segments = path.split("/")
    if segments[0] or any(is_template(part) and part not in ("{*}", "{**}") for part in segments):
        return "a template can only have whole segments {*} and {**}"
    if "*" in path.replace("{*}", "").replace("{**}", ""):
        return "cannot have both * and {*}"
    if "{**}" in segments and (segments.count("{**}") > 1 or "{*}" in segments[segments.index("{**}") :]):
        return "cannot have {*} or {**} behind {**}"
    return None


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
                if is_template(path) and (wrong := template_problem(path)):
                    yield Problem(f"{name}[{index}]", wrong)


class From(Model):
    source: Source


class To(Model):
    operation: Operation


#: Condition keys by what their values are.
_TEXT_KEYS = frozenset(
    {
        *("source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain"),
        *("request.auth.principal", "request.auth.audiences", "request.auth.presenter", "connection.sni"),
    }
)
_ADDRESS_KEYS = frozenset({"source.ip", "remote.ip", "destination.ip"})
_HEADER_PREFIX, _HEADER_SUFFIX = "request.headers[", "]"
_CLAIMS = "request.auth.claims"


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

    @property
    def claim(self) -> tuple[str, ...]:
        """The path of a claim when the key is request.auth.claims[NAME], or [NAME][NAME] for one inside another."""
        return bracketed(self.key.removeprefix(_CLAIMS)) if self.key.startswith(_CLAIMS) else ()

    def check(self) -> Iterator[Problem]:
        if not self.values and not self.not_values:
            yield Problem("", f"needs values or notValues for {self.key}")
        if self.key.startswith("experimental."):
            yield Problem("key", f"{self.key} is not supported: it reads filters of Envoy's own")
        elif self.key.startswith(_CLAIMS):
            if not self.claim:
                yield Problem("key", f"must be request.auth.claims[NAME], not {self.key}")
        elif (header := self.header) is not None:
            if wrong := header_problem(header):
                yield Problem("key", wrong)
        elif self.key not in _TEXT_KEYS | _ADDRESS_KEYS | {"destination.port"}:
            yield Problem("key", f"{self.key!r} is no attribute such as source.ip or request.headers[NAME]")
        yield from self._value_problems()

    def _value_problems(self) -> Iterator[Problem]:
        checks = dict.fromkeys(_ADDRESS_KEYS, address_block_problem) | {"destination.port": port_problem}
        for name, values in (("values", self.values), ("notValues", self.not_values)):
            for index, value in enumerate(values):
                wrong = "must not be empty" if not value else None
                if value and self.key in checks:
                    wrong = checks[self.key](value)
                if wrong:
                    yield Problem(f"{name}[{index}]", wrong)


def bracketed(text: str) -> tuple[str, ...]:
    """The names in `[a][b]`; none when the text has another form."""
    if not (text.startswith("[") and text.endswith("]")):
        return ()
    names = tuple(text[1:-1].split("]["))
    return names if all(name and not set(name) & set("[]") for name in names) else ()


class Provider(Model):
    """An extension provider of the mesh config that decides instead of us."""

    name: str = Field(min_length=1)


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

    unsupported: ClassVar[Mapping[str, str]] = {"targetRef": "", "targetRefs": ""}

    selector: WorkloadSelector | None = None
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    rules: tuple[Rule, ...] = ()
    provider: Provider | None = None

    def check(self) -> Iterator[Problem]:
        if self.action == "CUSTOM":
            yield from self._custom_problems()
        elif self.provider:
            yield Problem("provider", f"is for action CUSTOM, not {self.action}")
        if self.action == "DENY" and not self.rules:
            yield Problem("rules", "DENY without rules never denies; one empty rule {} denies everything")

    def _custom_problems(self) -> Iterator[Problem]:
        if self.provider is None:
            yield Problem("provider", "is required for action CUSTOM")
        if not self.rules:
            yield Problem(
                "rules", "CUSTOM without rules never asks; one empty rule {} asks for every request"
            )
        for index, rule in enumerate(self.rules):
            for number, origin in enumerate(rule.from_):
                if origin.source.asks_identity:
                    place = f"rules[{index}].from[{number}].source"
                    yield Problem(place, "identities cannot be a condition of CUSTOM: the provider sees them")
            for number, condition in enumerate(rule.when):
                if condition.key.startswith(
                    ("source.n", "source.p", "source.s", "source.t", "request.auth.")
                ):
                    place = f"rules[{index}].when[{number}].key"
                    yield Problem(place, "identities cannot be a condition of CUSTOM: the provider sees them")
