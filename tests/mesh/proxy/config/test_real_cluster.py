"""What the control plane serves in a real cluster, with the services that are always there, our proxy takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesh.control import ingest
from mesh.control.compile import CLUSTER, ENDPOINT, LISTENER, ROUTE, compile
from mesh.control.world import Interception, World
from mesh.proxy.config.clusters import assignment, cluster
from mesh.proxy.config.fields import check
from mesh.proxy.config.listeners import listener
from mesh.proxy.config.routes import route_table
from mesh.proxy.identity import Secrets
from tests.worlds import SAMPLES, bookinfo, sample, sidecar

ALWAYS_THERE: list[dict[str, Any]] = [
    {
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {
            "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1"],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
            "type": "ClusterIP",
        },
    },
    {
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "clusterIP": "10.96.0.10",
            "selector": {"k8s-app": "kube-dns"},
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
            ],
        },
    },
    {
        "metadata": {"name": "headless", "namespace": "default"},
        "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 5432}]},
    },
    {
        "metadata": {"name": "elsewhere", "namespace": "default"},
        "spec": {"type": "ExternalName", "externalName": "db.example.com"},
    },
]


def real(world: World) -> World:
    found = [ingest.service(obj, "cluster.local") for obj in ALWAYS_THERE]
    return world.evolve(services={**world.services, **{one.key: one for one in found}})


@pytest.mark.parametrize("way", ["NONE", "REDIRECT"])
@pytest.mark.parametrize("rules", ["", *SAMPLES])
def test_our_proxy_takes_every_resource(rules: str, way: Interception) -> None:
    world = real(bookinfo(*(sample(rules) if rules else ())))
    secrets = Secrets()
    translate: dict[str, Any] = {
        CLUSTER: lambda message: cluster(message, secrets),
        ENDPOINT: assignment,
        LISTENER: lambda message: listener(message, secrets),
        ROUTE: route_table,
    }
    for name in ("reviews-v1", "productpage-v1"):
        compiled = compile(world, replace(sidecar(name, world), interception=way, app_address="127.0.0.1"))
        for type_url, named in compiled.by_type.items():
            for message in named.values():
                check(message, "")
                translate[type_url](message)
