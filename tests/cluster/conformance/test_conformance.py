"""What the mesh and the labs need from a cluster, the same for every backend."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import preflight, up
from cluster.api import Api, ApiError
from cluster.up import Running
from mesh import manifests
from mesh.control.inject import Injection, inject
from mesh.control.world import Interception, MeshConfig

Object = dict[str, Any]


@pytest.fixture
def api(running: Running) -> Api:
    return running.api


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of its own, outside the mesh."""
    obj: Object = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": f"conform-{time.monotonic_ns()}"},
    }
    api.apply(obj)
    yield obj["metadata"]["name"]
    api.delete(obj)


def pods(api: Api, namespace: str, **labels: str) -> list[Object]:
    chosen = ",".join(f"{key}={value}" for key, value in labels.items())
    return api.list("v1", "Pod", namespace, labelSelector=chosen)


# --- the API ------------------------------------------------------------------------------------------------


def test_kubernetes_is_new_enough(api: Api) -> None:
    preflight.kubernetes(api)
    preflight.may_install(api)


@pytest.mark.parametrize("way", ["NONE", "REDIRECT"])
def test_every_manifest_passes_strict_validation(api: Api, way: Interception) -> None:
    options = manifests.Options(
        interception=way,
        app_address="127.0.0.1",
        native_sidecars=True,
        hold_application=True,
        replicas=2,
    )
    for obj in [
        *manifests.crds(),
        *manifests.mesh(options),
        *manifests.shop(options),
        *manifests.visitors(options),
    ]:
        api.apply(obj, dry_run=True)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("way", ["NONE", "REDIRECT"])
def test_pods_with_sidecars_pass_strict_validation(
    api: Api, namespace: str, way: Interception, native: bool
) -> None:
    settings = Injection(app_address="127.0.0.1", native_sidecars=native, hold_application=not native)
    for deployment in (obj for obj in manifests.shop() if obj["kind"] == "Deployment"):
        pod: Object = copy.deepcopy(deployment["spec"]["template"])
        for operation in inject(pod, namespace, MeshConfig(interception=way), settings):
            _, part, key = operation["path"].split("/")
            pod[part][key] = operation["value"]
        pod |= {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] |= {"name": deployment["metadata"]["name"], "namespace": namespace}
        del pod["spec"]["serviceAccountName"]  # it is of another namespace
        api.apply(pod, dry_run=True)


def test_an_unknown_field_is_refused_with_its_path(api: Api) -> None:
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "bad", "namespace": "default"},
        "spec": {"hosts": ["reviews"], "http": [{"rout": []}]},
    }
    with pytest.raises(ApiError, match="rout"):
        api.apply(rule)


def test_what_the_webhook_refuses_is_not_stored(api: Api) -> None:
    route = {"destination": {"host": "reviews"}, "weight": -1}
    rule: Object = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "bad", "namespace": "default"},
        "spec": {"hosts": ["reviews"], "http": [{"route": [route]}]},
    }
    with pytest.raises(ApiError, match="weight"):
        api.apply(rule)
    assert api.get("networking.istio.io/v1", "VirtualService", "bad", "default") is None


def test_tokens_are_for_the_audience_they_were_asked_for(api: Api, namespace: str) -> None:
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    up.poll(lambda: "" if api.get("v1", "ServiceAccount", "default", namespace) else "not yet", 10)
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["istio-ca"]},
    }
    token = api.request("POST", account, body=request)[0]["status"]["token"]

    def review(audience: str) -> Object:
        spec = {"token": token, "audiences": [audience]}
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        return dict(
            api.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=asked)[0]["status"]
        )

    assert review("istio-ca")["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert not review("somebody-else").get("authenticated")


@pytest.mark.parametrize(
    ("account", "verb", "resource", "allowed"),
    [
        ("mesh-control", "watch", "pods", True),
        ("mesh-control", "delete", "pods", False),
        ("mesh-telemetry", "list", "services", True),
        ("mesh-telemetry", "get", "secrets", False),
        ("mesh-gateway", "get", "pods", False),
    ],
)
def test_each_part_may_do_what_it_needs_and_no_more(
    api: Api, account: str, verb: str, resource: str, allowed: bool
) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:mesh-system:{account}",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {"verb": verb, "resource": resource, "namespace": "default"},
        },
    }
    said = api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=review)[0]
    assert bool(said["status"].get("allowed")) is allowed


# --- workloads ----------------------------------------------------------------------------------------------


def test_every_pod_of_the_shop_has_its_sidecar(api: Api) -> None:
    found = pods(api, "default")
    assert len(found) == len(manifests.SHOP)
    for pod in found:
        every = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
        assert "istio-proxy" in [container["name"] for container in every]


def test_logs_tell_what_a_container_said(api: Api) -> None:
    pod = pods(api, "mesh-system", app="mesh-control")[0]["metadata"]["name"]
    answer = api.send("GET", f"/api/v1/namespaces/mesh-system/pods/{pod}/log", {"tailLines": "500"})
    assert answer.status == 200 and b"serving xDS" in answer.body


def test_scaling_reaches_the_endpoints_and_back(api: Api) -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "ratings-v1", "namespace": "default"},
    }

    def ready() -> int:
        slices = api.list(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "default",
            labelSelector="kubernetes.io/service-name=ratings",
        )
        return sum(
            bool(one["conditions"].get("ready")) for each in slices for one in each.get("endpoints") or []
        )

    for replicas in (2, 1):
        api.patch(deployment, {"spec": {"replicas": replicas}})
        assert not up.poll(lambda wanted=replicas: "" if ready() == wanted else "waiting", 90, 0.1)  # type: ignore[misc]


def test_a_learners_own_server_runs_in_the_lab_image(running: Running, api: Api, namespace: str) -> None:
    labels = {"app": "own"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "own", "namespace": namespace, "labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "own",
                    "image": running.image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-m", "http.server", "8000", "--directory", "/"],
                    "ports": [{"containerPort": 8000}],
                    "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
                }
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "own", "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8000}]},
    }
    up.install(api, [pod, service])

    def problem() -> str:
        answer = api.service(namespace, "own", 80, "/")
        return "" if answer.status == 200 else f"HTTP {answer.status}"

    assert not up.poll(problem, 90, 0.2)


# --- reach --------------------------------------------------------------------------------------------------


def test_the_shop_is_served_through_the_gateway(running: Running) -> None:
    assert up.page_problem(running.gateway_url) == ""


def test_the_service_proxy_carries_queries_and_methods(api: Api) -> None:
    query = {"by": "destination_workload", "window": "30"}
    answer = api.service("mesh-system", "mesh-telemetry", 15013, "/api/series", query=query)
    assert answer.status == 200 and "series" in json.loads(answer.body)
    plan = api.service("visitors", "visitors", 9090, "/api/plan", method="PUT", body={"rate": 5.0})
    assert plan.status == 200, plan.body


def test_mutual_tls_is_what_telemetry_sees_inside(running: Running, api: Api) -> None:
    """Needs the sidecar before the app: the mode without NET_ADMIN has none there."""
    if running.cluster.interception == "NONE" and running.backend != "embedded":
        pytest.skip("interception NONE on real containers: nothing stands before the app")
    query = {
        "by": "connection_security_policy,destination_workload",
        "window": "20",
        "reporter": "destination",
    }

    def problem() -> str:
        up.page_problem(running.gateway_url)
        said = json.loads(
            api.service("mesh-system", "mesh-telemetry", 15013, "/api/series", query=query).body
        )
        seen = {one["labels"]["connection_security_policy"] for one in said["series"]}
        return "" if seen == {"mutual_tls"} else f"seen: {seen}"

    assert not up.poll(problem, 30, 0.3)
