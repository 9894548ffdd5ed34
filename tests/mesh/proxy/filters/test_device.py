"""The gateway's headers about a client's device: routes see them, and clients cannot set them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from google.protobuf.json_format import MessageToDict
from xds.type.v3 import typed_struct_pb2

from mesh.control.compile import edge, pb
from mesh.proxy.filters.device import DeviceFilter
from tests.support import xds
from tests.support.proxies import Lab

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1"
)
NAMES = {"family": "X-Device-Family", "system": "x-device-os", "type": "x-device-type"}


def run(*headers: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    exchange: Any = SimpleNamespace(headers=list(headers))
    DeviceFilter("device", NAMES).on_request(exchange)
    return [pair for pair in exchange.headers if pair not in headers]


def test_headers_tell_the_device() -> None:
    found = [(b"x-device-family", b"iPhone"), (b"x-device-os", b"iOS"), (b"x-device-type", b"phone")]
    assert run((b"user-agent", IPHONE.encode())) == found
    assert run((b"sec-ch-ua-platform", b'"iOS"'), (b"sec-ch-ua-model", b'"iPhone"')) == found
    assert run((b"sec-ch-ua-mobile", b"?1")) == []
    assert run((b"user-agent", b"\xff\xfe" * 4096)) == []


async def test_routes_see_the_device_and_not_what_the_client_claims(lab: Lab) -> None:
    filters = [MessageToDict(f, preserving_proto_field_name=True) for f in (edge.strip(), edge.device())]
    await lab.push(xds.listener("web", lab.address, 8080, xds.hcm("routes", filters=filters)))
    iphones = {"prefix": "/", "headers": [{"name": "x-device-family", "string_match": {"exact": "iPhone"}}]}
    await lab.route(xds.rule("two", iphones), xds.rule("one"))
    client = await lab.connect()
    assert (await client.request(headers={"user-agent": IPHONE})).header("x-upstream") == "two"
    for agent in ("curl/8", "a" * 8192):
        claims = {"user-agent": agent, "X-Device-Family": "iPhone"}
        assert (await client.request(headers=claims)).header("x-upstream") == "one"


async def test_a_header_name_for_something_else_is_refused(lab: Lab) -> None:
    wrong = edge.device()
    wrong.typed_config.Clear()
    config = typed_struct_pb2.TypedStruct(type_url=edge.DEVICE_FILTER)
    config.value.update({"colour": "x-colour"})
    wrong.typed_config.CopyFrom(pb.pack(config))
    filters = [MessageToDict(wrong, preserving_proto_field_name=True)]
    await lab.ads.serve(xds.listener("web", lab.address, 8080, xds.hcm("routes", filters=filters)))
    nack = await lab.ads.nacked()
    assert "colour" in nack
