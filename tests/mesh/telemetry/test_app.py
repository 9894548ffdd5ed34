"""Telemetry whole: gRPC reports in, HTTP answers out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import aiohttp
import grpc
import pytest
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from google.protobuf.json_format import ParseDict
from prometheus_client.parser import text_string_to_metric_families

from mesh.telemetry.app import Telemetry, serving
from tests.mesh.telemetry.entries import inbound, node_id, outbound, shop_directory

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


class NoCluster:
    """A Kubernetes API that never answers: telemetry must count all the same."""

    async def list(self, resource, namespace=""):
        await asyncio.Event().wait()


class Client:
    """A proxy that reports, and a notebook that asks."""

    def __init__(self, http, ports):
        self.http = http
        self.log_port, self.query_port = ports

    async def ask(self, path):
        async with self.http.get(f"http://127.0.0.1:{self.query_port}{path}") as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    async def series(self, query=""):
        return (await self.ask(f"/api/series?{query}"))[1]["series"]

    @contextlib.asynccontextmanager
    async def reporting(self):
        """A channel; gives a function that opens a stream and returns it."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.log_port}") as channel:
            yield channel.stream_unary(
                METHOD,
                request_serializer=StreamAccessLogsMessage.SerializeToString,
                response_deserializer=StreamAccessLogsResponse.FromString,
            )


def message(*entries, log_name="", node=""):
    made = StreamAccessLogsMessage()
    if log_name:
        ParseDict({"node": {"id": node}, "log_name": log_name}, made.identifier)
    for entry in entries:
        entry.common_properties.start_time.FromMilliseconds(round(time.time() * 1000) - 20)
        made.http_logs.log_entry.append(entry)
    return made


@pytest.fixture
async def client():
    telemetry = Telemetry(shop_directory())
    async with aiohttp.ClientSession() as http, serving(telemetry, NoCluster(), "127.0.0.1", 0, 0) as ports:
        yield Client(http, ports)


async def report(client, *messages):
    async with client.reporting() as stream:
        call = stream()
        for made in messages:
            await call.write(made)
        await call.done_writing()
        return await call


PRODUCTPAGE = node_id("productpage", "v1", "10.0.0.1")
REVIEWS = node_id("reviews", "v2", "10.0.0.12")


async def test_what_is_reported_is_told_at_once(client):
    async with client.reporting() as stream:
        call = stream()
        await call.write(message(outbound(), outbound(503), log_name="outbound", node=PRODUCTPAGE))
        await call.write(message(outbound()))
        sent = time.monotonic()
        while not (lines := await client.series("by=destination_version,response_code&window=5")):
            await asyncio.sleep(0.01)
        while sum(line["total"] for line in lines) < 3:
            lines = await client.series("by=destination_version,response_code&window=5")
        assert time.monotonic() - sent < 0.3
        totals = {
            (line["labels"]["destination_version"], line["labels"]["response_code"]): line["total"]
            for line in lines
        }
        assert totals == {("v2", "200"): 2, ("v2", "503"): 1}
        assert lines[0]["latency_ms"]["p50"] == pytest.approx(12, rel=0.04)
        call.cancel()


async def test_both_ends_make_one_edge(client):
    await report(client, message(outbound(), outbound(), log_name="outbound", node=PRODUCTPAGE))
    await report(client, message(inbound(), inbound(), log_name="inbound", node=REVIEWS))
    _, answer = await client.ask("/api/graph?window=5")
    (edge,) = answer["edges"]
    assert edge["source"]["workload"] == "productpage-v1"
    assert edge["destination"] == {
        "workload": "reviews-v2",
        "namespace": "default",
        "version": "v2",
        "service": "reviews.default.svc.cluster.local",
    }
    assert (edge["requests"], edge["codes"], edge["security"]) == (2, {"200": 2}, {"mutual_tls": 2})
    assert 0 < edge["rate"] <= 2
    assert await client.series("reporter=source&reporter=destination")
    (line,) = await client.series("by=connection_security_policy&reporter=destination")
    assert line["labels"] == {"connection_security_policy": "mutual_tls"} and line["total"] == 2
    assert await client.series("response_code=404") == []


async def test_requests_one_by_one(client):
    logged = [outbound(), outbound(503)]
    logged[1].request.request_id = "the-one"
    await report(client, message(*logged, log_name="outbound", node=PRODUCTPAGE))
    _, answer = await client.ask("/api/requests?limit=5")
    assert [request["response_code"] for request in answer["requests"]] == ["503", "200"]
    _, answer = await client.ask("/api/requests?request_id=the-one")
    (request,) = answer["requests"]
    assert request["source_workload"] == "productpage-v1" and request["path"] == "/reviews/0"
    assert request["duration_ms"] == 12 and abs(request["start"] - time.time()) < 5


async def test_istios_standard_metrics(client):
    slow = outbound(503)
    slow.common_properties.duration.FromMilliseconds(700)
    await report(client, message(outbound(), slow, log_name="outbound", node=PRODUCTPAGE))
    _, text = await client.ask("/metrics")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    totals = {s.labels["response_code"]: s for s in samples if s.name == "istio_requests_total"}
    assert {code: s.value for code, s in totals.items()} == {"200": 1, "503": 1}
    assert totals["200"].labels["destination_canonical_revision"] == "v2"
    buckets = {
        s.labels["le"]: s.value
        for s in samples
        if s.name == "istio_request_duration_milliseconds_bucket" and s.labels["response_code"] == "503"
    }
    assert (buckets["500"], buckets["1000.0"], buckets["+Inf"]) == (0, 1, 1)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/series?by=colour", "by: there is no label 'colour'; there are reporter, source_workload"),
        ("/api/series?colour=red", "colour: there is no such parameter or label"),
        ("/api/series?window=0", "window: give seconds, above 0 and up to 600"),
        ("/api/series?window=601", "window: give seconds"),
        ("/api/series?window=ten", "window: 'ten' is no number"),
        ("/api/series?window=inf", "window: 'inf' is no number"),
        ("/api/series?step=0.3", "step: give seconds, a multiple of 0.25"),
        ("/api/series?step=0", "step: give seconds"),
        ("/api/series?end=5", "end: 5 is not near now"),
        ("/api/graph?by=reporter", "by: there is no such parameter or label; there are window, end"),
        ("/api/requests?limit=0", "limit: give a whole number"),
        ("/api/requests?window=3", "window: there is no such parameter"),
    ],
)
async def test_a_question_nobody_can_answer(client, path, says):
    status, answer = await client.ask(path)
    assert status == 400 and answer["error"].startswith(says)


async def test_a_stream_of_nobody_is_refused_and_others_go_on(client):
    with pytest.raises(grpc.aio.AioRpcError, match="first message of a stream needs an identifier"):
        await report(client, message(outbound()))
    await report(client, message(outbound(), log_name="outbound", node="who~knows"))
    (line,) = await client.series("by=source_workload")
    assert line["labels"] == {"source_workload": "unknown"} and line["total"] == 1


async def test_not_ready_without_pods_and_services(client):
    assert await client.ask("/ready") == (503, "waiting for pods, services, endpointslices\n")
    assert (await client.ask("/health"))[0] == 200
