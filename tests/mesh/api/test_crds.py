"""The CRDs are structural schemas made from the models, and do not drop what the webhook shall refuse by
name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mesh.api.crds import crd, crds
from mesh.api.kinds import BY_NAME, KINDS, Kind


def schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and all below it."""
    yield schema
    for below in schema.get("properties", {}).values():
        yield from schemas(below)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from schemas(schema[key])


def spec_schema(kind: Kind) -> dict[str, Any]:
    version = crd(kind)["spec"]["versions"][0]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_every_part_of_a_schema_is_structural(kind: Kind) -> None:
    for schema in schemas(spec_schema(kind)):
        assert schema["type"] in ("object", "array", "string", "integer", "number", "boolean")
        assert not {"$ref", "anyOf", "allOf", "title", "default", "const", "exclusiveMinimum"} & set(schema)
        if schema["type"] == "array":
            assert "items" in schema
        if "properties" in schema:
            assert schema["x-kubernetes-preserve-unknown-fields"] is True


def test_every_version_is_served_and_one_is_stored_with_a_status() -> None:
    for definition in crds():
        versions = definition["spec"]["versions"]
        assert [version["served"] for version in versions] == [True] * len(versions)
        assert sum(version["storage"] for version in versions) == 1
        assert all(version["subresources"] == {"status": {}} for version in versions)
    assert {definition["metadata"]["name"] for definition in crds()} == {
        "virtualservices.networking.istio.io",
        "destinationrules.networking.istio.io",
        "gateways.networking.istio.io",
        "serviceentries.networking.istio.io",
        "workloadentries.networking.istio.io",
        "sidecars.networking.istio.io",
        "peerauthentications.security.istio.io",
        "authorizationpolicies.security.istio.io",
        "requestauthentications.security.istio.io",
        "telemetries.telemetry.istio.io",
    }


def test_types_ranges_and_choices_are_in_the_schema() -> None:
    spec = spec_schema(BY_NAME["VirtualService"])
    route = spec["properties"]["http"]["items"]["properties"]["route"]["items"]
    assert route["required"] == ["destination"]
    assert route["properties"]["weight"] == {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
    peers = spec_schema(BY_NAME["PeerAuthentication"])["properties"]["mtls"]["properties"]["mode"]
    assert peers["enum"] == ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]
    outliers = spec_schema(BY_NAME["DestinationRule"])["properties"]["trafficPolicy"]["properties"][
        "outlierDetection"
    ]
    assert "consecutive5xxErrors" in outliers["properties"]


def test_columns_are_those_istio_shows() -> None:
    columns = crd(BY_NAME["VirtualService"])["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns] == ["Gateways", "Hosts", "Age"]
