"""The sidecar injector: which pods, and what they become."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from mesh import manifests
from mesh.control.ingest import ConfigError
from mesh.control.inject import InjectError, Injection, inject, injection, wants_sidecar
from mesh.control.world import MeshConfig

Object = dict[str, Any]
ENABLED = {"istio-injection": "enabled"}
SETTINGS = Injection(image="service-mesh-lab:7")


def pod(**metadata: Any) -> Object:
    return {
        "metadata": {
            "generateName": "reviews-v1-5d4f-",
            "labels": {"app": "reviews", "version": "v1", "pod-template-hash": "5d4f"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "reviews-v1-5d4f", "controller": True}],
            **metadata,
        },
        "spec": {
            "containers": [
                {
                    "name": "reviews",
                    "image": "any",
                    "ports": [{"name": "http", "containerPort": 9080}],
                    "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
                    "livenessProbe": {"tcpSocket": {"port": 9080}, "timeoutSeconds": 3},
                    "startupProbe": {"exec": {"command": ["true"]}},
                }
            ]
        },
    }


def injected(original: Object, **mesh: Any) -> Object:
    """The pod with the patch applied, as the API server does it."""
    before = copy.deepcopy(original)
    patch = inject(original, "default", MeshConfig(**mesh), SETTINGS)
    assert original == before, "the original is not to be touched"
    result = copy.deepcopy(original)
    for operation in patch:
        assert operation["op"] == "add"
        _, part, key = operation["path"].split("/")
        result[part][key] = operation["value"]
    return result


def env(container: Object) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container["env"]}


def containers(made: Object) -> dict[str, Object]:
    return {one["name"]: one for one in made["spec"]["containers"]}


@pytest.mark.parametrize(
    ("metadata", "namespace", "labels", "expected"),
    [
        ({}, "default", ENABLED, True),
        ({}, "default", {}, False),
        ({}, "default", {"istio-injection": "disabled"}, False),
        ({"labels": {"sidecar.istio.io/inject": "false"}}, "default", ENABLED, False),
        ({"labels": {"sidecar.istio.io/inject": "true"}}, "default", {}, True),
        ({"annotations": {"sidecar.istio.io/inject": "false"}}, "default", ENABLED, False),
        (
            {
                "labels": {"sidecar.istio.io/inject": "true"},
                "annotations": {"sidecar.istio.io/inject": "false"},
            },
            "default",
            ENABLED,
            True,
        ),
        ({"annotations": {"sidecar.istio.io/status": "{}"}}, "default", ENABLED, False),
        ({}, "mesh-system", ENABLED, False),
        ({"labels": {"sidecar.istio.io/inject": "true"}}, "kube-system", ENABLED, False),
    ],
)
def test_who_gets_a_sidecar(metadata: Object, namespace: str, labels: dict[str, str], expected: bool) -> None:
    assert wants_sidecar(pod(**metadata), namespace, labels) is expected


def test_a_pod_on_the_hosts_network_gets_none() -> None:
    made = pod()
    made["spec"]["hostNetwork"] = True
    assert wants_sidecar(made, "default", ENABLED) is False


def test_the_sidecar_knows_who_it_is() -> None:
    sidecar = containers(injected(pod()))["istio-proxy"]
    assert sidecar["image"] == "service-mesh-lab:7"
    assert sidecar["args"][0] == "sidecar"
    variables = env(sidecar)
    assert variables["ISTIO_META_WORKLOAD_NAME"] == "reviews-v1"
    assert (
        variables["ISTIO_META_OWNER"] == "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v1"
    )
    labels = json.loads(variables["ISTIO_METAJSON_LABELS"])
    assert labels["version"] == "v1" and labels["security.istio.io/tlsMode"] == "istio"
    assert {mount["mountPath"] for mount in sidecar["volumeMounts"]} == {
        "/var/run/secrets/istio",
        "/var/run/secrets/tokens",
    }


def test_the_pod_says_that_it_is_in_the_mesh() -> None:
    made = injected(pod())
    metadata = made["metadata"]
    assert metadata["labels"]["security.istio.io/tlsMode"] == "istio"
    assert metadata["labels"]["service.istio.io/canonical-name"] == "reviews"
    assert metadata["labels"]["service.istio.io/canonical-revision"] == "v1"
    assert json.loads(metadata["annotations"]["sidecar.istio.io/status"])["containers"] == ["istio-proxy"]
    assert metadata["annotations"]["kubectl.kubernetes.io/default-container"] == "reviews"
    assert wants_sidecar(made, "default", ENABLED) is False


def test_the_app_is_sent_through_the_sidecar_unless_it_has_a_will_of_its_own() -> None:
    variables = env(containers(injected(pod()))["reviews"])
    assert variables["http_proxy"] == variables["HTTP_PROXY"] == "http://$(LAB_APP_ADDRESS):15001"
    assert "127.0.0.1" in variables["no_proxy"].split(",")
    own = pod()
    own["spec"]["containers"][0]["env"] = [{"name": "HTTP_PROXY", "value": "http://corporate:3128"}]
    variables = env(containers(injected(own))["reviews"])
    assert variables["HTTP_PROXY"] == "http://corporate:3128" and "http_proxy" not in variables


def test_probes_go_to_the_sidecar_which_asks_in_the_apps_own_words() -> None:
    made = containers(injected(pod()))
    app, probers = made["reviews"], json.loads(env(made["istio-proxy"])["ISTIO_KUBE_APP_PROBERS"])
    assert app["readinessProbe"]["httpGet"] == {
        "path": "/app-health/reviews/readyz",
        "port": 15020,
        "scheme": "HTTP",
    }
    assert app["readinessProbe"]["periodSeconds"] == 1
    assert "tcpSocket" not in app["livenessProbe"]
    assert app["startupProbe"] == {"exec": {"command": ["true"]}}
    assert probers == {
        "/app-health/reviews/readyz": {"httpGet": {"path": "/health", "port": 9080}, "timeoutSeconds": 1},
        "/app-health/reviews/livez": {"tcpSocket": {"port": 9080}, "timeoutSeconds": 3},
    }


def test_probes_stay_where_an_annotation_says_so() -> None:
    made = injected(pod(annotations={"sidecar.istio.io/rewriteAppHTTPProbers": "false"}))
    assert containers(made)["reviews"]["readinessProbe"]["httpGet"]["path"] == "/health"


def test_what_cannot_be_injected_is_refused_with_a_sentence() -> None:
    annotations = {"traffic.sidecar.istio.io/excludeInboundPorts": "9080,http"}
    with pytest.raises(InjectError, match="excludeInboundPorts: 'http' is not a port number"):
        injected(pod(annotations=annotations))
    unnamed = pod()
    unnamed["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = "web"
    with pytest.raises(InjectError, match="probe of port 'web', which it does not have"):
        injected(unnamed)
    with pytest.raises(InjectError, match="'TPROXY' is neither NONE nor REDIRECT"):
        injected(pod(annotations={"sidecar.istio.io/interceptionMode": "TPROXY"}))
    with pytest.raises(InjectError, match="excludeOutboundIPRanges: '10\\.0\\.0\\.0/99'"):
        injected(pod(annotations={"traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.0.0.0/99"}))


def test_with_redirect_the_kernel_sends_the_traffic_and_the_app_is_told_nothing() -> None:
    annotations = {
        "traffic.sidecar.istio.io/excludeInboundPorts": "7000, 7001",
        "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8",
    }
    made = injected(pod(annotations=annotations), interception="REDIRECT")
    (init,) = made["spec"]["initContainers"]
    assert init["command"] == ["python", "-m", "mesh.proxy.redirect"]
    options = dict(zip(init["args"][::2], init["args"][1::2], strict=True))
    assert options == {
        "--istio-local-exclude-ports": "15090,15021,15020,7000,7001",
        "--istio-service-cidr": "10.0.0.0/8",
    }
    assert init["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}
    assert "env" not in containers(made)["reviews"]
    assert env(containers(made)["istio-proxy"])["ISTIO_META_INTERCEPTION_MODE"] == "REDIRECT"
    assert json.loads(made["metadata"]["annotations"]["sidecar.istio.io/status"])["initContainers"] == [
        "istio-init"
    ]


def test_a_pod_may_choose_its_way() -> None:
    annotations = {"sidecar.istio.io/interceptionMode": "NONE"}
    made = injected(pod(annotations=annotations), interception="REDIRECT")
    assert "initContainers" not in made["spec"]
    assert "http_proxy" in env(containers(made)["reviews"])


def test_the_shop_can_be_injected_as_it_is_installed() -> None:
    for deployment in (obj for obj in manifests.shop() if obj["kind"] == "Deployment"):
        template = copy.deepcopy(deployment["spec"]["template"])
        made = injected(template)
        assert made["spec"]["containers"][0]["name"] == "istio-proxy"
        assert made["spec"]["securityContext"] == template["spec"]["securityContext"]


def test_settings_come_from_the_installed_config() -> None:
    config = next(obj for obj in manifests.mesh() if obj["kind"] == "ConfigMap")
    assert injection(config["data"]["injection"]).image == manifests.IMAGE
    for text in ("[", "- 1"):
        with pytest.raises(ConfigError):
            injection(text)
