"""Kinds that clients define: served at once, validated, pruned, defaulted, scaled, and gone with their definition."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
count = itertools.count(1)

ROUTE = {
    "type": "object",
    "required": ["weight"],
    "properties": {
        "weight": {"type": "integer", "minimum": 0, "maximum": 100},
        "subset": {"type": "string", "default": "v1", "pattern": "^v[0-9]+$"},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["hosts"],
            "properties": {
                "hosts": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "x-kubernetes-list-type": "set",
                },
                "routes": {
                    "type": "array",
                    "items": ROUTE,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["subset"],
                },
                "mode": {"type": "string", "enum": ["STRICT", "PERMISSIVE"]},
                "replicas": {"type": "integer"},
                "port": {"x-kubernetes-int-or-string": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "oneof": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                },
                "maybe": {"type": "string", "nullable": True},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


def definition(group: str, **version: Any) -> Object:
    first = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": SCHEMA},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        },
        "additionalPrinterColumns": [
            {"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts"},
            {"name": "Mode", "type": "string", "jsonPath": ".spec.mode", "priority": 1},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"},
        ],
    }
    older = {"name": "v1beta1", "served": True, "storage": False, "schema": {"openAPIV3Schema": SCHEMA}}
    names = {"plural": "routers", "kind": "Router", "shortNames": ["rt"], "categories": ["mesh"]}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [first | version, older]}
    return {"metadata": {"name": f"routers.{group}"}, "spec": spec}


@pytest.fixture
def group(api: Any) -> Iterator[str]:
    """A group whose kind Router is served."""
    name = f"g{next(count)}.example.com"
    api.must("POST", DEFINITIONS, definition(name))
    yield name
    api.call("DELETE", f"{DEFINITIONS}/routers.{name}")


@pytest.fixture
def path(group: str, namespace: str) -> str:
    return f"/apis/{group}/v1/namespaces/{namespace}/routers"


def router(**spec: Any) -> Object:
    return {"metadata": {"name": "r"}, "spec": {"hosts": ["a"]} | spec}


def test_established_at_once(api: Any, group: str) -> None:
    made = api.must("GET", f"{DEFINITIONS}/routers.{group}")
    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["spec"]["names"] == {
        "plural": "routers",
        "kind": "Router",
        "shortNames": ["rt"],
        "categories": ["mesh"],
        "singular": "router",
        "listKind": "RouterList",
    }
    api.kubectl("wait", "--for=condition=Established", f"crd/routers.{group}", "--timeout=5s")


def test_kubectl_with_a_defined_kind(api: Any, group: str, namespace: str) -> None:
    where = ("-n", namespace)
    document = f"apiVersion: {group}/v1\nkind: Router\nmetadata: {{name: r}}\nspec: {{hosts: [a, b], mode: STRICT}}\n"
    assert "created" in api.kubectl(*where, "apply", "-f", "-", stdin=document)
    assert "unchanged" in api.kubectl(*where, "apply", "-f", "-", stdin=document)
    head, row = api.kubectl(*where, "get", f"routers.{group}").splitlines()
    assert (head.split(), row.split()) == (["NAME", "HOSTS", "READY"], ["r", '["a","b"]'])
    assert "STRICT" in api.kubectl(*where, "get", f"routers.{group}", "-o", "wide")
    assert "FIELD: subset <string>" in api.kubectl(
        "explain", "routers.spec.routes.subset", f"--api-version={group}/v1"
    )
    refused = api.kubectl(*where, "apply", "-f", "-", stdin=document.replace("mode:", "mood:"), ok=False)
    assert 'unknown field "spec.mood"' in refused
    assert "deleted" in api.kubectl(*where, "delete", f"routers.{group}", "r")


def test_defaults_pruning_and_freedom(api: Any, path: str) -> None:
    body = router(routes=[{"weight": 5, "x": 1}], free={"any": [1, None]}, maybe=None, port="http", typo=1)
    answer = api.send("POST", path, body)
    assert answer.headers.getlist("Warning") == [
        '299 - "unknown field \\"spec.routes[0].x\\""',
        '299 - "unknown field \\"spec.typo\\""',
    ]
    assert answer.json()["spec"] == {
        "hosts": ["a"],
        "routes": [{"weight": 5, "subset": "v1"}],
        "free": {"any": [1, None]},
        "maybe": None,
        "port": "http",
    }


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"hosts": []}, "spec.hosts", "should have at least 1 items"),
        ({"hosts": ["a", "a"]}, "spec.hosts[1]", "Duplicate value"),
        ({"hosts": [1]}, "spec.hosts[0]", 'must be of type string: "integer"'),
        ({"hosts": None}, "spec.hosts", 'must be of type array: "null"'),
        ({"routes": [{}]}, "spec.routes[0].weight", "Required value"),
        ({"routes": [{"weight": "ten"}]}, "spec.routes[0].weight", 'must be of type integer: "string"'),
        ({"routes": [{"weight": -1}]}, "spec.routes[0].weight", "should be greater than or equal to 0"),
        ({"routes": [{"weight": 101}]}, "spec.routes[0].weight", "should be less than or equal to 100"),
        ({"routes": [{"weight": 1.5}]}, "spec.routes[0].weight", 'must be of type integer: "number"'),
        ({"routes": [{"weight": 1, "subset": "x"}]}, "spec.routes[0].subset", "should match '^v[0-9]+$'"),
        ({"routes": [{"weight": 1}, {"weight": 2}]}, "spec.routes[1]", "Duplicate value"),
        ({"mode": "LOOSE"}, "spec.mode", 'supported values: "PERMISSIVE", "STRICT"'),
        ({"port": 1.5}, "spec.port", "must be of type"),
        ({"oneof": {"a": "1", "b": "2"}}, "spec.oneof", "must validate exactly one schema (oneOf)"),
        ({"oneof": {}}, "spec.oneof", "must validate exactly one schema (oneOf)"),
    ],
)
def test_schema(api: Any, path: str, spec: Object, field: str, says: str) -> None:
    code, status = api.call("POST", path, router(**spec))
    assert (code, status["reason"]) == (422, "Invalid"), status
    causes = {cause["field"]: cause["message"] for cause in status["details"]["causes"]}
    assert says in causes[field]
    assert status["message"].startswith(f'Router.{status["details"]["group"]} "r" is invalid: ')


def test_status_scale_generation_and_apply(api: Any, path: str) -> None:
    made = api.must("POST", path, router(replicas=2) | {"status": {"x": 1}})
    assert "status" not in made and made["metadata"]["generation"] == 1
    stored = api.must(
        "PATCH", f"{path}/r/status", {"spec": {"replicas": 9}, "status": {"replicas": 2}}, media=MERGE
    )
    assert (stored["spec"]["replicas"], stored["status"], stored["metadata"]["generation"]) == (
        2,
        {"replicas": 2},
        1,
    )
    scale = api.must("PATCH", f"{path}/r/scale", {"spec": {"replicas": 5}}, media=MERGE)
    assert (scale["spec"], scale["status"]) == ({"replicas": 5}, {"replicas": 2})
    applied = {"apiVersion": made["apiVersion"], "kind": "Router", "spec": {"hosts": ["b"]}}
    merged = api.must("PATCH", f"{path}/r?fieldManager=me", applied, media="application/apply-patch+yaml")
    assert sorted(merged["spec"]["hosts"]) == ["a", "b"] and merged["metadata"]["generation"] == 3
    code, status = api.call("PATCH", f"{path}/r", {}, media="application/strategic-merge-patch+json")
    assert code == 415
    code, status = api.call("PATCH", f"{path}/r", applied, media="application/apply-patch+yaml")
    assert code == 400 and "fieldManager" in status["message"]


def test_other_versions_show_the_same_object(api: Any, path: str) -> None:
    api.must("POST", path.replace("/v1/", "/v1beta1/"), router() | {"metadata": {"name": "old"}})
    assert api.must("GET", f"{path}/old")["apiVersion"].endswith("/v1")
    listed = api.must("GET", path.replace("/v1/", "/v1beta1/"))
    assert listed["items"][0]["apiVersion"].endswith("/v1beta1") and listed["kind"] == "RouterList"


def test_a_changed_definition_is_served_and_a_deleted_one_is_not(api: Any, group: str, path: str) -> None:
    api.must("POST", path, router())
    made = api.must("GET", f"{DEFINITIONS}/routers.{group}")
    made["spec"]["versions"][1]["served"] = False
    api.must("PUT", f"{DEFINITIONS}/routers.{group}", made)
    assert api.call("GET", path.replace("/v1/", "/v1beta1/"))[0] == 404
    assert api.must("GET", f"{path}/r")
    api.must("DELETE", f"{DEFINITIONS}/routers.{group}")
    assert api.call("GET", path)[0] == 404
    api.must("POST", DEFINITIONS, definition(group))
    assert api.must("GET", path)["items"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema": None}, "spec.versions[0].schema.openAPIV3Schema"),
        ({"schema": {"openAPIV3Schema": {"type": "string"}}}, "spec.versions[0].schema.openAPIV3Schema.type"),
        ({"storage": False}, "spec.versions"),
        (
            {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"properties": {}}}}}},
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].type",
        ),
    ],
)
def test_bad_definitions(api: Any, change: Object, field: str) -> None:
    code, status = api.call("POST", DEFINITIONS, definition("bad.example.com", **change))
    assert code == 422 and field in {cause["field"] for cause in status["details"]["causes"]}, status


def test_a_definition_must_be_named_after_its_kind(api: Any) -> None:
    body = definition("bad.example.com") | {"metadata": {"name": "other"}}
    code, status = api.call("POST", DEFINITIONS, body)
    assert code == 422 and "must be spec.names.plural" in status["message"]


def test_cel_rules_are_announced_as_not_evaluated(api: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "x-kubernetes-validations": [{"rule": "true"}]}},
    }
    body = definition("cel.example.com", schema={"openAPIV3Schema": schema})
    answer = api.send("POST", f"{DEFINITIONS}?dryRun=All", body)
    assert answer.status == 201
    answer = api.send("POST", DEFINITIONS, body)
    assert "x-kubernetes-validations at spec: CEL rules are not evaluated" in answer.headers["Warning"]
    api.must("DELETE", f"{DEFINITIONS}/routers.cel.example.com")
