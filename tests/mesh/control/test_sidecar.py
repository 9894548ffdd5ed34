"""The sidecar in a pod of real Kubernetes: order of start and end, with and without sidecar containers."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from mesh import manifests
from mesh.control.inject import InjectError, Injection, inject, injection
from mesh.control.world import Interception, MeshConfig

Object = dict[str, Any]


def injected(settings: Injection, way: Interception, **annotations: str) -> Object:
    """The shop's reviews, as the API server would store it."""
    deployment = next(o for o in manifests.shop() if o["metadata"]["name"] == "reviews-v1" and "spec" in o)
    pod = copy.deepcopy(deployment["spec"]["template"])
    pod["metadata"]["annotations"] = annotations
    pod["spec"]["initContainers"] = [{"name": "own", "image": "x"}]
    for operation in inject(pod, "default", MeshConfig(interception=way), settings):
        _, part, key = operation["path"].split("/")
        pod[part][key] = operation["value"]
    return dict(pod)


def names(pod: Object, part: str) -> list[str]:
    return [each["name"] for each in pod["spec"][part]]


def sidecar(pod: Object) -> Object:
    every = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    return dict(next(each for each in every if each["name"] == "istio-proxy"))


REAL = Injection(app_address="127.0.0.1")
NATIVE = Injection(app_address="127.0.0.1", native_sidecars=True)
HOLDING = Injection(app_address="127.0.0.1", hold_application=True)


def test_rules_first_then_the_sidecar_then_all_that_is_the_apps() -> None:
    pod = injected(NATIVE, "REDIRECT")
    assert names(pod, "initContainers") == ["istio-init", "istio-proxy", "own"]
    assert names(pod, "containers") == ["reviews"]
    made = sidecar(pod)
    assert made["restartPolicy"] == "Always" and made["startupProbe"]["httpGet"]["port"] == 15021
    status = json.loads(pod["metadata"]["annotations"]["sidecar.istio.io/status"])
    assert status["initContainers"] == ["istio-init", "istio-proxy"] and status["containers"] == []


def test_without_kernel_rules_the_sidecar_is_the_first() -> None:
    assert names(injected(NATIVE, "NONE"), "initContainers") == ["istio-proxy", "own"]


def test_where_kubernetes_has_no_sidecars_hooks_keep_the_order() -> None:
    pod = injected(HOLDING, "REDIRECT")
    assert names(pod, "initContainers") == ["istio-init", "own"]
    assert names(pod, "containers") == ["istio-proxy", "reviews"]
    hooks = sidecar(pod)["lifecycle"]
    assert hooks["postStart"]["exec"]["command"][-1] == "until-ready"
    assert hooks["preStop"]["exec"]["command"][-2:] == ["seconds", "5"]
    assert "restartPolicy" not in sidecar(pod)


def test_the_pods_own_proxy_config_decides_about_holding() -> None:
    config = {"proxy.istio.io/config": "holdApplicationUntilProxyStarts: false"}
    assert "lifecycle" not in sidecar(injected(HOLDING, "REDIRECT", **config))
    config = {"proxy.istio.io/config": '{"holdApplicationUntilProxyStarts": true}'}
    assert "lifecycle" in sidecar(injected(REAL, "REDIRECT", **config))
    for text in ("[", "holdApplicationUntilProxyStarts: perhaps", "- x"):
        with pytest.raises(InjectError, match=r"annotation proxy\.istio\.io/config"):
            injected(REAL, "REDIRECT", **{"proxy.istio.io/config": text})


def test_only_the_init_container_may_touch_the_network() -> None:
    pod = injected(NATIVE, "REDIRECT")
    may = {
        each["name"]: each.get("securityContext", {}).get("capabilities", {}).get("add", [])
        for each in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    }
    assert may.pop("istio-init") == ["NET_ADMIN", "NET_RAW"]
    assert not any(may.values())


def test_without_net_admin_nothing_needs_more_than_baseline_and_the_app_keeps_its_port() -> None:
    pod = injected(NATIVE, "NONE")
    assert pod["metadata"]["labels"]["security.istio.io/tlsMode"] == "disabled"
    app = pod["spec"]["containers"][0]
    env = {each["name"]: each["value"] for each in app["env"]}
    assert env["http_proxy"] == "http://127.0.0.1:15001"
    assert app["readinessProbe"]["httpGet"] == {"path": "/health", "port": 9080}, (
        "the kubelet asks the app itself"
    )
    given = {each["name"]: each.get("value") for each in sidecar(pod)["env"]}
    assert given["ISTIO_META_INBOUND_CAPTURE"] == "NONE"
    assert "NET_ADMIN" not in json.dumps(pod)


def test_limits_only_where_they_are_asked_for() -> None:
    assert "limits" not in sidecar(injected(NATIVE, "REDIRECT"))["resources"]
    limited = injected(NATIVE, "REDIRECT", **{"sidecar.istio.io/proxyMemoryLimit": "128Mi"})
    assert sidecar(limited)["resources"]["limits"] == {"memory": "128Mi"}


def test_the_installed_config_says_which_way() -> None:
    options = manifests.Options(app_address="127.0.0.1", native_sidecars=True, hold_application=True)
    config = next(obj for obj in manifests.mesh(options) if obj["kind"] == "ConfigMap")
    settings = injection(config["data"]["injection"])
    assert (settings.app_address, settings.native_sidecars, settings.hold_application) == (
        "127.0.0.1",
        True,
        True,
    )
    default = next(obj for obj in manifests.mesh() if obj["kind"] == "ConfigMap")
    assert injection(default["data"]["injection"]).app_address == "$(LAB_APP_ADDRESS)"
