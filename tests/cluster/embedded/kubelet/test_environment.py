"""Variables, files and the downward API, without any process."""

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.embedded.kube import Object, Resource
from cluster.embedded.kubelet import downward, files
from cluster.embedded.kubelet.environment import (
    ConfigError,
    Place,
    command,
    environment,
    expand,
    service_variables,
)

POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "labels": {"app": "p", "a/b": 'x"y'},
        "annotations": {},
    },
    "spec": {"nodeName": "node", "containers": [{"name": "main"}]},
}
PLACE = Place(
    "127.9.1.1", "127.9.0.1", "127.9.1.2", "127.9.1.2", "127.9.0.1", 6443, "/root", {"PYTHONPATH": "/shim"}
)
OBJECTS = {
    ("ConfigMap", "c"): {"kind": "ConfigMap", "data": {"A": "1", "B": "2"}, "binaryData": {"bin": "/w=="}},
    ("Secret", "s"): {"kind": "Secret", "data": {"password": base64.b64encode(b"geheim").decode()}},
}


async def lookup(resource: Resource, namespace: str, name: str) -> Object | None:
    assert namespace == "n"
    return OBJECTS.get((resource.kind, name))


async def env_of(**container: Any) -> dict[str, str]:
    return await environment(POD, container, PLACE, [], lookup)


async def test_env_from_comes_before_env_and_may_have_a_prefix() -> None:
    sources = [{"configMapRef": {"name": "c"}}, {"prefix": "S_", "secretRef": {"name": "s"}}]
    found = await env_of(envFrom=sources, env=[{"name": "A", "value": "own $(B)"}])
    assert (found["A"], found["B"], found["S_password"]) == ("own 2", "2", "geheim")


async def test_missing_sources() -> None:
    optional = {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}
    assert "X" not in await env_of(env=[{"name": "X", "valueFrom": optional}])
    for source, message in [
        ({"configMapKeyRef": {"name": "none", "key": "x"}}, 'configmap "none" not found'),
        ({"secretKeyRef": {"name": "s", "key": "x"}}, "couldn't find key x in Secret n/s"),
        ({"fieldRef": {"fieldPath": "spec.nonsense"}}, "unsupported fieldPath: spec.nonsense"),
        ({"resourceFieldRef": {"resource": "cpu"}}, "unsupported container resource: cpu"),
        ({"fileKeyRef": {}}, "no source that the embedded cluster knows"),
    ]:
        with pytest.raises(ConfigError, match=message):
            await env_of(env=[{"name": "X", "valueFrom": source}])


async def test_a_python_path_of_the_pods_own_stands_before_the_shims() -> None:
    assert (await env_of(env=[{"name": "PYTHONPATH", "value": "/mine"}]))["PYTHONPATH"] == "/mine:/shim"
    assert (await env_of())["PYTHONPATH"] == "/shim"


def test_commands_expand_like_values() -> None:
    container = {"command": ["echo", "$(A)"], "args": ["$$(A)", "$(B)"]}
    assert command(container, {"A": "1"}) == ["echo", "1", "$(A)", "$(B)"]


@given(st.text(alphabet="$()AB x"), st.dictionaries(st.sampled_from(["A", "B"]), st.text(alphabet="xy")))
def test_expansion_leaves_other_text_alone(text: str, values: dict[str, str]) -> None:
    if "$" not in text:
        assert expand(text, values) == text
    assert expand(text.replace("$", "$$"), values) == text


def test_service_variables() -> None:
    ports = [{"port": 80, "name": "http-main"}, {"port": 90}]
    service = {"metadata": {"name": "my-svc"}, "spec": {"clusterIP": "127.9.128.2", "ports": ports}}
    found = service_variables(service)
    assert found["MY_SVC_SERVICE_HOST"] == "127.9.128.2" and found["MY_SVC_SERVICE_PORT"] == "80"
    assert found["MY_SVC_SERVICE_PORT_HTTP_MAIN"] == "80" and found["MY_SVC_PORT"] == "tcp://127.9.128.2:80"
    assert service_variables({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": ports}}) == {}


def test_downward_fields() -> None:
    both = ("127.9.1.1", "127.9.0.1")
    assert downward.field(POD, "metadata.labels['a/b']", both) == 'x"y'
    assert downward.field(POD, "metadata.labels", both) == 'a/b="x\\"y"\napp="p"'
    assert downward.field(POD, "status.hostIP", both) == "127.9.0.1"
    assert downward.field(POD, "spec.serviceAccountName", both) == "default"


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", 0.5), ("128Mi", 128 * 2**20), ("2", 2), ("1k", 1000), ("1.5Gi", 1.5 * 2**30)],
)
def test_quantities(text: str, number: float) -> None:
    assert downward.quantity(text) == number


async def test_files_appear_and_change_all_at_once(tmp_path: Path) -> None:
    from cluster.embedded.kube import CONFIGMAPS

    whole = await files.keyed(CONFIGMAPS, "n", {"name": "c"}, 0o640, lookup)
    files.write(tmp_path, whole)
    assert (tmp_path / "A").read_text() == "1" and (tmp_path / "bin").read_bytes() == b"\xff"
    assert files.same(tmp_path, whole)
    held = (tmp_path / "..data").resolve()
    some = await files.keyed(
        CONFIGMAPS, "n", {"name": "c", "items": [{"key": "B", "path": "deep/b"}]}, 0o644, lookup
    )
    assert not files.same(tmp_path, some)
    files.write(tmp_path, some)
    assert (tmp_path / "deep" / "b").read_text() == "2" and not (tmp_path / "A").exists()
    assert not held.exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b"])
async def test_paths_out_of_the_volume_are_refused(path: str) -> None:
    from cluster.embedded.kube import CONFIGMAPS

    with pytest.raises(files.MountError, match="must be relative"):
        await files.keyed(
            CONFIGMAPS, "n", {"name": "c", "items": [{"key": "A", "path": path}]}, 0o644, lookup
        )
