"""A cluster that is there already: found by its context, checked, filled and emptied. The embedded one plays it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import choose, existing, preflight, records, steps, up
from cluster.api import Api, ApiError
from cluster.base import ClusterError
from cluster.embedded.client import EmbeddedCluster
from cluster.settings import Settings, settings
from mesh import manifests

GIVEN = Settings(image="registry.example/service-mesh-lab:7", interception="NONE")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster.start(
        "there", state_home=tmp_path_factory.mktemp("there"), image="registry.example/service-mesh-lab"
    )
    yield cluster
    cluster.stop()


@pytest.fixture
def context(there: EmbeddedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of its context in a kubeconfig that has another one as current."""
    config = yaml.safe_load(there.kubeconfig.read_text())
    name = config["current-context"]
    config["contexts"].append({"name": "other", "context": config["contexts"][0]["context"]})
    config["current-context"] = "other"
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("MESH_LAB_HOME", str(tmp_path / "home"))
    return str(name)


def start(context: str, chosen: Settings = GIVEN, name: str = "mine") -> existing.ExistingCluster:
    return existing.start(context, name, "7", chosen, os.getpid(), steps.silent)


def kinds_of(api: Api) -> set[tuple[str, str]]:
    """What is there of cluster-wide kinds that we install, and of namespaces."""
    found = {("Namespace", each["metadata"]["name"]) for each in api.list("v1", "Namespace")}
    for version, kind in (
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ):
        found |= {(kind, each["metadata"]["name"]) for each in api.list(version, kind)}
    for version, kind in (("v1", "Service"), ("apps/v1", "Deployment"), ("v1", "ServiceAccount")):
        found |= {(kind, each["metadata"]["name"]) for each in api.list(version, kind, "default")}
    return found


def test_what_is_installed_goes_again_and_nothing_else(context: str) -> None:
    cluster = start(context)
    assert (cluster.backend, cluster.name, cluster.interception) == (f"context:{context}", "mine", "NONE")
    assert yaml.safe_load(cluster.kubeconfig.read_text())["current-context"] == context
    assert cluster.kubeconfig.stat().st_mode & 0o077 == 0
    api = Api(cluster.kubeconfig)
    before = kinds_of(api)
    told = up.options_for(cluster, api, "python")
    assert told.native_sidecars and told.app_address == "127.0.0.1" and told.image == GIVEN.image
    objects = [
        o for o in manifests.mesh(told) if "Webhook" not in o["kind"]
    ]  # nobody is there to answer them
    up.install(api, [*manifests.crds(), *objects, *manifests.shop(told), *manifests.visitors(told)])
    assert choose.find("mine").name == "mine"
    cluster.stop()
    cluster.stop()
    assert kinds_of(api) == before
    default = api.get("v1", "Namespace", "default")
    assert default is not None and "istio-injection" not in default["metadata"]["labels"]
    assert records.read("context", "mine") is None
    api.close()


def test_bad_starts_leave_nothing(context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(match: str, *args: Any) -> None:
        with pytest.raises(ClusterError, match=match):
            start(*args)
        assert records.read("context", "mine") is None and not (records.home("context") / "mine").exists()

    refused('has no context "absent"; it has: ', "absent")
    refused("needs the lab's image: name a registry", context, Settings())
    monkeypatch.setattr(preflight, "OLDEST", (9, 9))
    refused("needs 9.9 or newer", context)
    monkeypatch.undo()


def test_a_credential_that_is_no_good_and_a_server_that_is_away(context: str) -> None:
    path = existing.kubeconfig_path()
    config = yaml.safe_load(path.read_text())
    config["users"][0]["user"] = {"token": "expired"}
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ClusterError, match=r"credential .* log in again"):
        start(context)
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ClusterError, match=r"does not answer.*is the cluster up"):
        start(context)


def test_a_namespace_that_forbids_net_admin(context: str) -> None:
    api = Api(existing.kubeconfig_path(), context)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    enforce = "pod-security.kubernetes.io/enforce"
    api.patch(namespace, {"metadata": {"labels": {enforce: "baseline"}}})
    try:
        with pytest.raises(ClusterError, match=r"Pod Security baseline.*--interception none"):
            start(context, Settings(image="x/y:7"))
        start(context).record.forget()
    finally:
        api.patch(namespace, {"metadata": {"labels": {enforce: None}}})
        api.close()


def test_a_mesh_that_is_there_already(context: str) -> None:
    cluster = start(context)
    with pytest.raises(ClusterError, match=r"is installed in context .* already"):
        start(context)
    cluster.record.forget()
    api = Api(existing.kubeconfig_path(), context)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mesh-system"}}
    api.apply(namespace)
    try:
        with pytest.raises(ClusterError, match="mesh-system is there already"):
            start(context)
    finally:
        api.delete(namespace)
        api.close()


def test_files_that_a_kubeconfig_names_are_found_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [
                    {"name": "c", "cluster": {"server": "https://x", "certificate-authority": "ca.pem"}}
                ],
                "users": [{"name": "u", "user": {"client-key": "/abs/key"}}],
            }
        )
    )
    found = existing.of_context(path, "a")
    assert found["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "ca.pem")
    assert found["users"][0]["user"]["client-key"] == "/abs/key"


def test_objects_are_asked_again_while_the_cluster_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __init__(self, *errors: ApiError) -> None:
            self.errors, self.applied = list(errors), 0

        def apply(self, obj: Any) -> None:
            if self.errors:
                raise self.errors.pop()
            self.applied += 1

    slow: Any = Slow(
        ApiError(500, "failed calling webhook: no endpoints available"),
        ApiError(404, "this cluster knows no kind"),
    )
    up.install(slow, [{}])
    assert slow.applied == 1
    monkeypatch.setattr(up, "SETTLE_SECONDS", 0.0)
    for error in (ApiError(422, "spec.hosts: is required"), ApiError(503, "busy for good")):
        broken: Any = Slow(error, error, error)
        with pytest.raises(ApiError, match=str(error)):
            up.install(broken, [{}])


def test_settings_come_from_options_and_the_environment() -> None:
    environ = {"MESH_KIND_NODE_IMAGE": "node:e", "MESH_LAB_INTERCEPTION": "none", "MESH_KIND_WORKERS": "2"}
    assert settings(environ) == Settings(node_image="node:e", interception="NONE", workers=2)
    assert settings(environ, node_image="node:o", workers=0).node_image == "node:o"
    assert settings({}) == Settings()
    for variable, value in (
        ("MESH_KIND_WORKERS", "many"),
        ("MESH_LAB_REPLICAS", "0"),
        ("MESH_LAB_INTERCEPTION", "tproxy"),
    ):
        with pytest.raises(ClusterError, match=variable):
            settings({variable: value})


def test_words_that_are_no_backend() -> None:
    for word in ("docker", "context:", ""):
        with pytest.raises(ClusterError, match="none of embedded, kind, context:NAME"):
            choose.check(word)
