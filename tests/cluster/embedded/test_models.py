"""Schemas read from the Python client: every model can be read, and says what Kubernetes' OpenAPI says."""

import re

import pytest

from cluster.embedded import models, wire
from cluster.embedded.kinds import Registry
from cluster.embedded.shape import conform
from cluster.embedded.structural import missing


def test_every_file_of_the_client_is_found_and_read() -> None:
    classes = [
        re.search(r"^class (\w+)", path.read_text(), re.MULTILINE)
        for path in models._folder().glob("v1_*.py")
    ]
    names = [found[1] for found in classes if found]
    assert len(names) > 400
    for name in names:
        schema = models.model_schema(name)
        assert schema["type"] == "object" and set(schema.get("required", ())) <= set(schema["properties"])


def test_types_required_and_merge_keys() -> None:
    spec = models.model_schema("V1PodSpec")
    assert spec["required"] == ["containers"]
    assert spec["properties"]["containers"]["x-kubernetes-list-map-keys"] == ["name"]
    assert spec["properties"]["nodeSelector"]["x-kubernetes-map-type"] == "atomic"
    assert models.model_schema("V1Secret")["properties"]["data"]["additionalProperties"]["format"] == "byte"
    assert models.model_schema("V1ServicePort")["properties"]["targetPort"] == {
        "x-kubernetes-int-or-string": True
    }


def test_the_tables_of_merge_keys_name_fields_that_exist() -> None:
    for model, fields in models.LIST_KEYS.items():
        properties = models.model_schema(model)["properties"]
        for field, keys in fields.items():
            items = models.resolve(properties[field]["items"])["properties"]
            assert set(keys.split(",")) <= set(items), (model, field)
    for model in models.ATOMIC_MODELS:
        assert models.file_name(model)


def test_every_kind_has_a_schema_with_metadata() -> None:
    for kind in Registry().all():
        assert "metadata" in kind.body["properties"], kind.kind


def test_unknown_missing_mistyped() -> None:
    pod = {"spec": {"containers": [{"image": "a", "ports": [{"containerPort": "80"}], "x": 1}]}, "y": None}
    schema = models.ref("V1Pod")
    found = conform(schema, pod)
    assert found.unknown == ["spec.containers[0].x", "y"]
    assert [cause.field for cause in missing(schema, pod)] == ["spec.containers[0].name"]
    assert found.wrong == ("spec.containers[0].ports[0].containerPort", "80", "integer")


@pytest.mark.parametrize("message", sorted(wire._tables()))
def test_numbers_are_of_fields_that_exist(message: str) -> None:
    """The table of protobuf numbers agrees with the client's models, but for inlined parts and newer fields."""
    if not message.startswith(("V1", "RbacV1")):
        return
    known = set(models.model_schema(message)["properties"])
    assert {name for name in wire.fields_of(message).values() if not name.startswith("+")} <= known
