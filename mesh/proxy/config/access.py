"""RBAC rules become conditions on an exchange: the permissions and principals of Envoy's RBAC policies."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from typing import Any as AnyType

from envoy.config.rbac.v3 import rbac_pb2

from mesh.proxy.config import ConfigError, values
from mesh.proxy.filters.rbac import Condition, Policy, Rules

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange

PEER_PRINCIPAL = "io.istio.peer_principal"
"""The filter state under which Istio's own filter keeps the peer's identity; here it is the certificate's."""


def rules(message: rbac_pb2.RBAC, where: str) -> Rules:
    """Translate checked rules. Raises ConfigError."""
    action = rbac_pb2.RBAC.Action.Name(message.action)
    policies = []
    for name in sorted(message.policies):
        policy, at = message.policies[name], f"{where}.policies[{name}]"
        policies.append(
            Policy(
                name,
                any_of([_permission(rule, f"{at}.permissions") for rule in policy.permissions]),
                any_of([_principal(rule, f"{at}.principals") for rule in policy.principals]),
            )
        )
    return Rules(action, policies)


def any_of(conditions: Sequence[Condition]) -> Condition:
    """True when one of them is."""
    if len(conditions) == 1:
        return conditions[0]

    def test(exchange: Exchange) -> bool:
        for condition in conditions:  # noqa: SIM110 a generator costs more than the loop
            if condition(exchange):
                return True
        return False

    return test


def all_of(conditions: Sequence[Condition]) -> Condition:
    """True when each of them is."""
    if len(conditions) == 1:
        return conditions[0]

    def test(exchange: Exchange) -> bool:
        for condition in conditions:  # noqa: SIM110 a generator costs more than the loop
            if not condition(exchange):
                return False
        return True

    return test


def negation(condition: Condition) -> Condition:
    return lambda exchange: not condition(exchange)


def _always(exchange: Exchange) -> bool:
    return True


def _permission(rule: AnyType, where: str) -> Condition:
    """What is done: method, path, header, port."""
    kind = rule.WhichOneof("rule")
    if kind == "and_rules":
        return all_of([_permission(part, where) for part in rule.and_rules.rules])
    if kind == "or_rules":
        return any_of([_permission(part, where) for part in rule.or_rules.rules])
    if kind == "not_rule":
        return negation(_permission(rule.not_rule, where))
    if kind == "destination_port":
        port = rule.destination_port
        return lambda exchange: exchange.conn.local[1] == port
    if kind == "destination_port_range":
        low, high = rule.destination_port_range.start, rule.destination_port_range.end
        return lambda exchange: low <= exchange.conn.local[1] < high
    if kind == "destination_ip":
        return _address(rule.destination_ip, lambda exchange: exchange.conn.local[0], where)
    if kind == "requested_server_name":
        name = values.string_match(rule.requested_server_name, where)
        return lambda exchange: name(exchange.conn.server_name)
    return _common(rule, kind, where)


def _principal(rule: AnyType, where: str) -> Condition:
    """Who does it: the certificate's name, an address, a header."""
    kind = rule.WhichOneof("identifier")
    if kind == "and_ids":
        return all_of([_principal(part, where) for part in rule.and_ids.ids])
    if kind == "or_ids":
        return any_of([_principal(part, where) for part in rule.or_ids.ids])
    if kind == "not_id":
        return negation(_principal(rule.not_id, where))
    if kind == "authenticated":
        return _authenticated(rule.authenticated, where)
    if kind == "filter_state":
        if rule.filter_state.key != PEER_PRINCIPAL:
            raise ConfigError(f"{where}.filter_state: key {rule.filter_state.key} is not supported")
        return _peer_name(values.string_match(rule.filter_state.string_match, where))
    if kind in ("source_ip", "direct_remote_ip"):
        return _address(getattr(rule, kind), lambda exchange: exchange.conn.remote[0], where)
    if kind == "remote_ip":
        return _address(rule.remote_ip, lambda exchange: exchange.client_address, where)
    return _common(rule, kind, where)


def _common(rule: AnyType, kind: str, where: str) -> Condition:
    if kind == "any":
        return _always
    if kind == "header":
        return values.header_match(rule.header, f"{where}.header")
    if kind == "url_path":
        path = values.string_match(rule.url_path.path, f"{where}.url_path.path")
        return lambda exchange: path(exchange.path)
    raise ConfigError(f"{where}: {kind or 'an empty rule'} is not supported")


def _authenticated(message: AnyType, where: str) -> Condition:
    if not message.HasField("principal_name"):
        return lambda exchange: exchange.conn.peer is not None
    return _peer_name(values.string_match(message.principal_name, f"{where}.authenticated"))


def _peer_name(matches: Callable[[bytes], bool]) -> Condition:
    """URI names of the peer's certificate, then DNS names, then its subject, as Envoy compares them."""

    def condition(exchange: Exchange) -> bool:
        peer = exchange.conn.peer
        if peer is None:
            return False
        names = peer.uris or peer.dns_names or (peer.subject,)
        return any(matches(name.encode()) for name in names)

    return condition


def _address(message: AnyType, of: Callable[[Exchange], str], where: str) -> Condition:
    net = network(message, where)
    return lambda exchange: _inside(of(exchange), net)


def network(message: AnyType, where: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Envoy's CidrRange. Raises ConfigError."""
    try:
        return ipaddress.ip_network(f"{message.address_prefix}/{message.prefix_len.value}", strict=False)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _inside(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False
