"""Whatever is sent, the server answers with the object or with a refusal that it thought of: never with a 500."""

import asyncio
import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.embedded import auth, paths, wire
from cluster.embedded.apiserver import ApiServer, Options
from cluster.embedded.call import Call
from cluster.embedded.status import ApiError

Object = dict[str, Any]
TEMPLATE = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {
        "containers": [
            {
                "name": "a",
                "image": "a:1",
                "ports": [{"containerPort": 80, "name": "http"}],
                "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "resources": {"limits": {"cpu": 1}},
                "readinessProbe": {"httpGet": {"port": "http"}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }
        ],
        "volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
    },
}
SELECTOR = {"matchLabels": {"a": "b"}}
WEBHOOK = {
    "name": "a.b.c",
    "clientConfig": {"service": {"name": "s", "namespace": "n"}},
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "rules": [{"operations": ["*"], "apiGroups": ["x"], "apiVersions": ["v1"], "resources": ["x"]}],
}
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["n"],
            "properties": {
                "x": {"type": "string", "pattern": "^a", "maxLength": 3},
                "n": {"type": "integer", "minimum": 0, "multipleOf": 2},
                "s": {
                    "type": "array",
                    "items": {"type": "string"},
                    "x-kubernetes-list-type": "set",
                    "maxItems": 2,
                },
                "m": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"k": {"type": "string", "default": "d"}}},
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                },
                "f": {"type": "object", "additionalProperties": {"type": "number"}, "minProperties": 1},
                "o": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            },
        }
    },
}
THING = {"x": "a", "n": 4, "s": ["a", "b"], "m": [{"k": "1"}, {}], "f": {"z": 1.5}, "o": 1}
CRD = {
    "group": "x.io",
    "scope": "Namespaced",
    "names": {"plural": "things", "kind": "Thing"},
    "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}],
}
VALID: dict[str, Object] = {
    "/api/v1/namespaces/default/pods": {"spec": TEMPLATE["spec"]},
    "/apis/apps/v1/namespaces/default/deployments": {
        "spec": {"selector": SELECTOR, "template": TEMPLATE, "strategy": {}}
    },
    "/apis/batch/v1/namespaces/default/jobs": {
        "spec": {"template": {"spec": TEMPLATE["spec"] | {"restartPolicy": "Never"}}}
    },
    "/api/v1/namespaces/default/services": {
        "spec": {"ports": [{"port": 80, "targetPort": "x"}], "selector": {"a": "b"}}
    },
    "/api/v1/namespaces/default/configmaps": {"data": {"a": "b"}},
    "/api/v1/namespaces/default/secrets": {"data": {"a": "Yg=="}, "stringData": {"x": "y"}},
    "/api/v1/namespaces": {},
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["1.2.3.4"]}],
        "ports": [{"port": 1}],
    },
    "/apis/rbac.authorization.k8s.io/v1/clusterroles": {
        "rules": [{"apiGroups": [""], "resources": ["x"], "verbs": ["get"]}]
    },
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": {
        "roleRef": {"kind": "ClusterRole", "name": "x"},
        "subjects": [{"kind": "User", "name": "u"}],
    },
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations": {"webhooks": [WEBHOOK]},
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": {"spec": CRD},
    "/apis/y.io/v1/namespaces/default/things": {"spec": THING},
    "/apis/policy/v1/namespaces/default/poddisruptionbudgets": {
        "spec": {"minAvailable": "50%", "selector": SELECTOR}
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ApiServer:
    """The server's parts, without a socket, and a defined kind."""
    made = ApiServer(Options("127.0.0.1", 6443, tmp_path_factory.mktemp("fuzz"), "127.9.128.0/17"))
    definition = {"metadata": {"name": "things.y.io"}, "spec": CRD | {"group": "y.io"}}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert send(made, "POST", path, json.dumps(definition).encode(), "application/json", dry=False) == 201
    return made


def send(server: ApiServer, method: str, path: str, body: bytes, media: str, *, dry: bool = True) -> int:
    """The code that a request is answered with; anything but an ApiError fails the test."""
    target = paths.read(method, path, {})
    kind = server.front.registry.get(target.group, target.version, target.resource)
    query = {"dryRun": "All" if dry else "", "fieldManager": "fuzz", "fieldValidation": "Ignore"}
    if not kind.namespaced:
        target = replace(target, namespace="")
    call = Call(target, kind, query, auth.ADMIN, body, media, "fuzz/1")
    try:
        handler = server.front.subresources.handler(call)
        return asyncio.run(handler(call) if handler else server.verbs.run(call, None)).code
    except ApiError as error:
        assert error.code != 500, error.message
        assert error.status()["message"]
        return error.code


junk = st.sampled_from(
    [None, True, 0, -1, 70000, 1.5, "", "x", "$(", "a/b", [], [None], [[]], {}, {"a": None}, {"name": 1}]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found = [path]
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in parts:
        found += places(item, (*path, key))
    return found


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    document[path[0]] = put(document[path[0]], path[1:], value)
    return document


@st.composite
def spoiled(draw: Any) -> tuple[str, Any]:
    """A valid object with up to three places replaced by junk."""
    path = draw(st.sampled_from(sorted(VALID)))
    document = copy.deepcopy(
        {"metadata": {"name": "things.x.io" if "customres" in path else "x"}} | VALID[path]
    )
    for _ in range(draw(st.integers(0, 3))):
        document = put(document, draw(st.sampled_from(places(document))), copy.deepcopy(draw(junk)))
    return path, document


@pytest.mark.parametrize("path", sorted(VALID))
def test_the_samples_are_valid(server: ApiServer, path: str) -> None:
    name = "things.x.io" if "customres" in path else "x"
    body = json.dumps({"metadata": {"name": name}} | VALID[path]).encode()
    assert send(server, "POST", path, body, "application/json") == 201


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoiled())
def test_create(server: ApiServer, sample: tuple[str, Any]) -> None:
    path, document = sample
    assert send(server, "POST", path, json.dumps(document).encode(), "application/json") in (
        201,
        400,
        404,
        422,
    )


MEDIA = [
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoiled(), st.sampled_from(MEDIA))
def test_patch(server: ApiServer, sample: tuple[str, Any], media: str) -> None:
    path, document = sample
    name = "kubernetes" if path.endswith(("services", "endpointslices")) else "kube-root-ca.crt"
    name = {"namespaces": "default", "clusterroles": "view", "clusterrolebindings": "cluster-admin"}.get(
        path.rpartition("/")[2], name
    )
    if isinstance(document, dict) and isinstance(document.get("metadata"), dict):
        document["metadata"].pop("name", None)
    send(server, "PATCH", f"{path}/{name}", json.dumps(document).encode(), media)


pieces = st.sampled_from(
    [b"", b"k8s\x00", b"\x0a", b"\x12", b"\x02v1", b"\x0a\x02v1\x12\x03Pod", b"\xff", b"\x08\x01"]
)


@given(st.lists(pieces | st.binary(max_size=6), max_size=8))
def test_protobuf(parts: list[bytes]) -> None:
    try:
        wire.decode(b"k8s\x00" + b"".join(parts))
    except ApiError as error:
        assert error.code in (400, 415)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text('{}[]:",a1 \n-&*!', max_size=30), st.sampled_from(["application/json", "application/yaml"]))
def test_text(server: ApiServer, text: str, media: str) -> None:
    send(server, "POST", "/api/v1/namespaces/default/configmaps", text.encode(), media)


def test_state_is_untouched(server: ApiServer) -> None:
    """All of the above was dry."""
    assert not list(server.front.store.objects("pods"))
    assert Path(server.credentials.ca_file).exists()
