"""The manifests: whole, consistent with each other, and what Kubernetes accepts."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from mesh import manifests
from mesh.api import KINDS, validate
from mesh.control.app import CLUSTER_WIDE

ALL = [
    *manifests.crds(),
    *manifests.mesh(),
    *manifests.shop(),
    *manifests.visitors(),
    *manifests.shop_gateway(),
]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [obj for obj in ALL if obj["kind"] == kind]


def key(obj: dict[str, Any]) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def test_every_object_is_named_once() -> None:
    assert [name for name, n in Counter(map(key, ALL)).items() if n > 1] == []


def test_nothing_is_left_to_fill_in() -> None:
    assert "${" not in repr(ALL)


def test_namespaces_come_before_what_is_in_them() -> None:
    seen = {"default"}
    for obj in ALL:
        if obj["kind"] == "Namespace":
            seen.add(obj["metadata"]["name"])
        assert obj["metadata"].get("namespace", "default") in seen, key(obj)


@pytest.mark.parametrize("service", of_kind("Service"), ids=lambda s: s["metadata"]["name"])
def test_services_select_pods_that_have_their_ports(service: dict[str, Any]) -> None:
    selector = service["spec"]["selector"]
    namespace = service["metadata"]["namespace"]
    pods = [
        deployment["spec"]["template"]
        for deployment in of_kind("Deployment")
        if deployment["metadata"]["namespace"] == namespace
        and selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert pods
    for pod in pods:
        declared = {port["containerPort"] for one in pod["spec"]["containers"] for port in one["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= declared


@pytest.mark.parametrize("deployment", of_kind("Deployment"), ids=lambda d: d["metadata"]["name"])
def test_deployments_are_good_citizens(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    account = ("ServiceAccount", deployment["metadata"]["namespace"], pod["spec"]["serviceAccountName"])
    assert account in map(key, ALL)
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    for container in pod["spec"]["containers"]:
        assert container["image"] == manifests.IMAGE
        assert container["command"][:2] == ["python", "-m"]
        assert {"cpu", "memory"} == container["resources"]["requests"].keys()
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "httpGet" in container["readinessProbe"]
        for port in container["ports"]:
            assert re.fullmatch(r"[a-z0-9-]{1,15}", port["name"])
        for variable in container.get("env", []):
            assert isinstance(variable.get("value", ""), str)


def test_the_shop_has_the_names_of_bookinfo() -> None:
    names = {obj["metadata"]["name"] for obj in manifests.shop() if obj["kind"] == "Deployment"}
    assert names == {"details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3", "productpage-v1"}
    accounts = {obj["metadata"]["name"] for obj in manifests.shop() if obj["kind"] == "ServiceAccount"}
    assert accounts == {f"bookinfo-{app}" for app in ("details", "ratings", "reviews", "productpage")}


def test_the_front_door_is_valid_config() -> None:
    for obj in manifests.shop_gateway():
        assert validate(obj) == []


def test_webhooks_fail_closed_and_leave_the_mesh_itself_alone() -> None:
    hooks = [
        hook
        for obj in [*of_kind("MutatingWebhookConfiguration"), *of_kind("ValidatingWebhookConfiguration")]
        for hook in obj["webhooks"]
    ]
    assert {hook["failurePolicy"] for hook in hooks} == {"Fail"}
    for hook in hooks:
        if hook["clientConfig"]["service"]["path"] == "/inject":
            names = hook["namespaceSelector"]["matchExpressions"][-1]
            assert names["operator"] == "NotIn" and "mesh-system" in names["values"]


def test_the_control_plane_may_write_the_status_of_every_kind_and_read_secrets_of_its_own_namespace_only() -> (
    None
):
    role = next(obj for obj in of_kind("ClusterRole") if obj["metadata"]["name"] == "mesh-control")
    allowed = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert {f"{kind.plural}/status" for kind in KINDS} <= allowed
    assert "secrets" not in allowed
    role = next(obj for obj in of_kind("Role") if obj["metadata"]["name"] == "mesh-control")
    assert role["metadata"]["namespace"] == "mesh-system", "certificates of gateways, and the root, are there"
    assert any("secrets" in rule["resources"] and "watch" in rule["verbs"] for rule in role["rules"])


def test_the_control_plane_may_read_what_it_watches() -> None:
    role = next(obj for obj in of_kind("ClusterRole") if obj["metadata"]["name"] == "mesh-control")
    for resource in CLUSTER_WIDE:
        verbs = {
            verb
            for rule in role["rules"]
            for verb in rule["verbs"]
            if resource.group in rule["apiGroups"]
            and {resource.plural, "*"} & set(rule["resources"])
            and "resourceNames" not in rule
        }
        assert {"list", "watch"} <= verbs, resource


def test_options_reach_the_objects() -> None:
    options = manifests.Options(
        image="registry/lab:7", trust_domain="td.example", cert_lifetime="5s", replicas=2, log_level="debug"
    )
    objects = {key(obj): obj for obj in manifests.mesh(options)}
    control = objects["Deployment", "mesh-system", "mesh-control"]["spec"]
    assert control["replicas"] == 2
    assert control["template"]["spec"]["containers"][0]["args"] == ["--log-level", "debug"]
    assert "trustDomain: td.example" in objects["ConfigMap", "mesh-system", "mesh"]["data"]["mesh"]
    gateway = objects["Deployment", "mesh-system", "mesh-gateway"]["spec"]["template"]["spec"]["containers"][
        0
    ]
    assert gateway["image"] == "registry/lab:7"
    assert {"name": "SECRET_TTL", "value": "5s"} in gateway["env"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"interception": "TPROXY"}, "neither NONE nor REDIRECT"),
        ({"cert_lifetime": "soon"}, "24h, 10m or 5s"),
        ({"cert_lifetime": ""}, "24h, 10m or 5s"),
        ({"replicas": 0}, "at least one"),
        ({"dataplane": "envoy"}, "python sidecars only"),
    ],
)
def test_what_cannot_be_installed_is_refused(bad: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        manifests.Options(**bad)
