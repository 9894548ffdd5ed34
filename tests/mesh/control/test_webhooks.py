"""The admission webhooks as the API server meets them: AdmissionReview in, AdmissionReview out."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mesh.api import parse
from mesh.control.inject import Injection
from mesh.control.webhooks import Webhooks
from mesh.control.world import Namespace, World
from tests.mesh.control.kubernetes import virtual_service
from tests.worlds import bookinfo

Object = dict[str, Any]


@asynccontextmanager
async def webhooks(world: World) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(Webhooks(lambda: world, Injection).application())) as client:
        yield client


def review(obj: Object, namespace: str = "default") -> Object:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "u1", "operation": "CREATE", "namespace": namespace, "object": obj},
    }


async def ask(client: TestClient[Any, Any], path: str, body: Object) -> Object:
    answer = await client.post(path, json=body)
    assert answer.status == 200
    said = await answer.json()
    assert (said["apiVersion"], said["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert said["response"]["uid"] == "u1"
    response: Object = said["response"]
    return response


POD = {"metadata": {"generateName": "x-"}, "spec": {"containers": [{"name": "x", "image": "y"}]}}


async def test_a_pod_is_given_a_patch() -> None:
    world = World(namespaces={"default": Namespace("default", {"istio-injection": "enabled"})})
    async with webhooks(world) as client:
        said = await ask(client, "/inject", review(POD))
    assert said["allowed"] is True and said["patchType"] == "JSONPatch"
    paths = {operation["path"] for operation in json.loads(base64.b64decode(said["patch"]))}
    assert "/spec/containers" in paths


async def test_a_namespace_that_is_newer_than_our_copy_is_as_the_api_server_matched_it() -> None:
    async with webhooks(World()) as client:
        assert "patch" in await ask(client, "/inject", review(POD, "brand-new"))


async def test_a_pod_that_is_to_be_left_alone_is_allowed() -> None:
    async with webhooks(World(namespaces={"default": Namespace("default")})) as client:
        said = await ask(client, "/inject", review(POD))
    assert said["allowed"] is True and "patch" not in said


async def test_a_pod_that_cannot_be_injected_is_refused() -> None:
    annotations = {"traffic.sidecar.istio.io/excludeInboundPorts": "x"}
    bad = POD | {"metadata": {"annotations": annotations}}
    async with webhooks(World()) as client:
        said = await ask(client, "/inject", review(bad))
    assert said["allowed"] is False and "is not a port number" in said["status"]["message"]


async def test_a_valid_rule_is_accepted() -> None:
    async with webhooks(bookinfo()) as client:
        said = await ask(client, "/validate", review(virtual_service("reviews")))
    assert said["allowed"] is True


async def test_a_reference_to_nothing_is_a_warning() -> None:
    async with webhooks(bookinfo()) as client:
        said = await ask(client, "/validate", review(virtual_service("nobody")))
    assert said["allowed"] is True
    assert any("nobody" in warning and "IST0101" in warning for warning in said["warnings"])


async def test_a_wrong_rule_is_refused_with_path_and_sentence() -> None:
    bad = virtual_service("reviews", 90)
    bad["spec"]["http"][0]["route"][1]["weight"] = -1
    bad["spec"]["gatewayz"] = ["x"]
    async with webhooks(bookinfo()) as client:
        said = await ask(client, "/validate", review(bad))
    assert said["allowed"] is False
    assert said["status"]["code"] == 422
    assert "spec.http[0].route[1].weight: must be at least 0, not -1" in said["status"]["message"]
    assert "spec.gatewayz: is not a field Istio has here; did you mean gateways?" in said["status"]["message"]


@pytest.mark.parametrize("obj", [None, [], "x", {}, {"kind": "VirtualService"}, {"metadata": 3}])
async def test_whatever_is_asked_gets_an_answer(obj: Any) -> None:
    async with webhooks(World()) as client:
        said = await ask(client, "/validate", review(obj))
    assert said["allowed"] is False and said["status"]["message"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"request": 3}'])
async def test_what_is_no_admission_review_is_a_bad_request(body: bytes) -> None:
    async with webhooks(World()) as client:
        for path in ("/inject", "/validate"):
            assert (await client.post(path, data=body)).status == 400


def without_hosts(name: str) -> Object:
    bare = virtual_service(name)
    del bare["spec"]["hosts"]
    return bare


async def test_forgotten_hosts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.control.webhooks.HEARD_OF_SECONDS", 0.05)
    async with webhooks(bookinfo()) as client:
        said = await ask(client, "/validate", review(without_hosts("reviews")))
        assert said["allowed"] is False
        assert said["status"]["message"].startswith("spec.hosts: is required: no VirtualService delegates")
        rehearsed = review(without_hosts("reviews"))
        rehearsed["request"]["dryRun"] = True
        assert (await ask(client, "/validate", rehearsed))["allowed"] is True


async def test_a_delegate_needs_no_hosts_once_it_is_delegated_to() -> None:
    root = virtual_service("root")
    root["spec"]["http"] = [{"delegate": {"name": "reviews"}}]
    world = bookinfo()
    rule = parse(root)
    async with webhooks(world.evolve(config={rule.kind: {(rule.namespace, rule.name): rule}})) as client:
        said = await ask(client, "/validate", review(without_hosts("reviews")))
    assert said["allowed"] is True
