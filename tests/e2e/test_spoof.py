"""The brief cannot be faked: what clients say of themselves counts for nothing, from outside and from inside.

Visitors have no sidecar. They visit through the gateway, and once straight at productpage, as any pod could.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import traffic
from cluster.api import Api
from cluster.up import poll
from mesh.api.brief import Brief
from mesh.cli.demo_brief import trust_proxies
from mesh.cli.demo_steps import SUBSETS, put
from mesh.proxy.geography import installed
from mesh.shop.population import SOUTHERN_SPAIN, people
from tests.e2e.conftest import Command

DIRECT = "http://productpage.default:9080/productpage"
CLAIMS = {
    "x-geo-country": "ES",
    "X-Geo-Region": "AN",
    "x-geo-city": "Cádiz",
    "x-device-family": "iPhone",
    "x-envoy-external-address": "83.36.1.1",
    "x-real-ip": "83.36.1.1",
    "forwarded": "for=83.36.1.1",
    "user-agent": "curl/8",
}
MEANT = next(p for p in people(99, 1, installed()) if p.region in SOUTHERN_SPAIN and "iPhone" in p.agent)


@pytest.fixture(scope="module")
def api(mesh: Command) -> Iterator[Api]:
    """A running mesh with the brief in force, for all of its audience."""
    where = mesh.json("up")
    found = Api(Path(where["kubeconfig"]))
    brief = Brief("reviews", "v3", "v1", ("Southern Spain",), ("iPhone",), 100).virtual_service()
    put(found, SUBSETS, yaml.safe_dump(brief))
    yield found
    found.close()
    assert mesh("down").returncode == 0


def versions(api: Api, headers: dict[str, str], count: int = 20) -> Any:
    return traffic.visit(api, count, headers=headers)["by_version"]


def test_from_outside(api: Api) -> None:
    assert versions(api, CLAIMS) == {"v1": 20}
    assert versions(api, {**CLAIMS, **MEANT.headers}) == {"v1": 20}, "X-Forwarded-For is nobody's word yet"


def test_a_trusted_proxy_is_believed_and_its_clients_are_not(api: Api) -> None:
    trust_proxies(api, 1)
    try:
        assert (
            poll(lambda: "" if versions(api, MEANT.headers, 1) == {"v3": 1} else "not believed", 10.0) == ""
        )
        elsewhere = {**CLAIMS, "user-agent": MEANT.agent, "x-forwarded-for": f"{MEANT.address}, 8.8.8.8"}
        assert versions(api, elsewhere) == {"v1": 20}
        assert versions(api, {**CLAIMS, "x-forwarded-for": MEANT.address}) == {"v1": 20}
    finally:
        trust_proxies(api, 0)


def test_from_a_pod_without_sidecar(api: Api) -> None:
    traffic.plan(api, {"url": DIRECT})
    try:
        assert versions(api, CLAIMS) == {"v1": 20}
    finally:
        traffic.plan(api, {"url": "http://mesh-gateway.mesh-system:8080/productpage"})
