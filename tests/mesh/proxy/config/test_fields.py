"""What is refused, and with which words; and that what the control plane compiles is not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from mesh.control.compile import compile
from mesh.proxy.config import ConfigError
from mesh.proxy.config.clusters import assignment, cluster
from mesh.proxy.config.fields import HARMLESS, HONOURED, check
from mesh.proxy.config.listeners import listener
from mesh.proxy.config.routes import route_table
from mesh.proxy.identity import Secrets
from tests.oracle.test_accept import worlds
from tests.support import xds
from tests.worlds import gateway, sidecar

SECRETS = Secrets()
TRANSLATE: dict[str, Any] = {
    "Cluster": lambda message: cluster(message, SECRETS),
    "ClusterLoadAssignment": assignment,
    "Listener": lambda message: listener(message, SECRETS),
    "RouteConfiguration": route_table,
}


NOT_YET = (
    "kubernetes://",
    "verify_certificate_hash",
    "JwtAuthentication",
    "dynamic_metadata",
    "shadow_rules",
    "ExtAuthz",
    "Tracing",
)
"""What the control plane compiles for Envoy and this proxy still refuses (`mesh.control.limits`): credentials of
origination, end users' tokens, dry runs, external authorizers."""


@pytest.mark.parametrize("name", sorted(worlds()))
def test_what_the_control_plane_compiles_is_taken(name: str) -> None:
    world = worlds()[name]
    refused = []
    for proxy in (sidecar(world=world), sidecar("reviews-v1", world), gateway(world)):
        for resources in compile(world, proxy).by_type.values():
            for message in resources.values():
                try:
                    check(message)
                    TRANSLATE[message.DESCRIPTOR.name](message)
                except ConfigError as error:
                    refused.append(str(error))
    assert [reason for reason in refused if not any(known in reason for known in NOT_YET)] == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            xds.cluster("c", dns_resolvers=[{}]),
            "dns_resolvers: this field of envoy.config.cluster.v3.Cluster",
        ),
        (
            xds.cluster("c", lb_policy="LOAD_BALANCING_POLICY_CONFIG"),
            "lb_policy: LOAD_BALANCING_POLICY_CONFIG",
        ),
        (
            xds.listener("l", "127.0.0.1", 1, xds.hcm("r", http2_protocol_options={})),
            "filter_chains[0].filters[0].typed_config.http2_protocol_options: this field",
        ),
        (
            xds.listener("l", "127.0.0.1", 1, xds.hcm("r", upgrade_configs=[{"upgrade_type": "websocket"}])),
            "upgrade_configs: websocket is not supported",
        ),
        (xds.listener("l", "127.0.0.1", 1), "filter_chains: at least one is needed"),
        (
            xds.listener("l", "127.0.0.1", 1, {"filters": [], "name": "empty"}),
            "filter_chains[0].filters: at least one is needed",
        ),
        (
            xds.routes("r", xds.host(xds.rule("c", route={"internal_redirect_policy": {}}))),
            "virtual_hosts[0].routes[0].route.internal_redirect_policy: this field",
        ),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(message: Any, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(message)
        TRANSLATE[message.DESCRIPTOR.name](message)
    assert reason in str(refused.value)


def test_the_lists_name_real_messages_and_fields_and_the_proxy_alone_knows_them_all() -> None:
    """In a process of its own, since tests import more than the proxy does."""
    program = """
from google.protobuf import symbol_database
from mesh.proxy.config.fields import HONOURED, HARMLESS
for table in (HONOURED, HARMLESS):
    for name, fields in table.items():
        known = symbol_database.Default().GetSymbol(name).DESCRIPTOR.fields_by_name
        assert not set(fields.split()) - set(known), (name, set(fields.split()) - set(known))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert HONOURED and HARMLESS
