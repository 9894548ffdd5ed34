"""What `test_same` compares: one configuration, a table of requests, and how an answer is read.

The configuration has one listener and a route for each feature; `echo` upstreams tell what they were asked.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from google.protobuf.message import Message

from tests.support import xds
from tests.support.echo import EchoServer

FAULT = "envoy.filters.http.fault"


def _fault(**config: Any) -> dict[str, Any]:
    return {"typed_per_filter_config": {FAULT: {"@type": xds.FAULT, **config}}}


def _header(name: str, value: str, how: str = "APPEND_IF_EXISTS_OR_ADD") -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": how}


def _when(name: str, **matcher: Any) -> dict[str, Any]:
    return {"prefix": "/when", "headers": [{"name": name, **matcher}]}


ALL = {"numerator": 100, "denominator": "HUNDRED"}

RULES = [
    xds.rule("two", {"path": "/exact"}),
    xds.rule("two", {"path_separated_prefix": "/parts"}),
    xds.rule("two", {"safe_regex": {"regex": "/re/[0-9]+"}}),
    xds.rule("two", {"prefix": "/CASE", "case_sensitive": False}),
    xds.rule("two", _when("x-exact", string_match={"exact": "a"})),
    xds.rule("two", _when("x-prefix", string_match={"prefix": "a"})),
    xds.rule("two", _when("x-contains", string_match={"contains": "mid"})),
    xds.rule("two", _when("x-regex", string_match={"safe_regex": {"regex": "v[0-9]"}})),
    xds.rule("two", _when("x-present", present_match=True)),
    xds.rule("two", _when("x-range", range_match={"start": 1, "end": 10})),
    xds.rule("two", _when(":method", string_match={"exact": "PUT"})),
    xds.rule("two", _when("x-not", string_match={"exact": "a"}, invert_match=True)),
    xds.rule(
        "two", {"prefix": "/query", "query_parameters": [{"name": "v", "string_match": {"exact": "2"}}]}
    ),
    xds.rule("two", {"prefix": "/rewrite/"}, route={"prefix_rewrite": "/new/"}),
    xds.rule("two", {"path": "/rewrite-exact"}, route={"prefix_rewrite": "/new"}),
    xds.rule(
        "two",
        {"prefix": "/substitute/"},
        route={"regex_rewrite": {"pattern": {"regex": "^/substitute/([a-z]+)"}, "substitution": "/s/\\1/x"}},
    ),
    xds.rule("two", {"prefix": "/host"}, route={"host_rewrite_literal": "other.example"}),
    xds.rule("missing", {"prefix": "/missing"}),
    xds.rule("empty", {"prefix": "/empty"}),
    xds.rule("refused", {"prefix": "/refused"}),
    xds.rule("one", {"prefix": "/timeout"}, route={"timeout": "0.1s"}),
    xds.rule("one", {"prefix": "/patient"}, route={"timeout": "0s"}),
    xds.rule(
        "one", {"prefix": "/retry"}, route={"retry_policy": {"retry_on": "5xx,reset", "num_retries": 2}}
    ),
    xds.rule("one", {"prefix": "/abort"}, **_fault(abort={"http_status": 555, "percentage": ALL})),
    xds.rule("one", {"prefix": "/late"}, **_fault(delay={"fixed_delay": "0.05s", "percentage": ALL})),
    {"match": {"prefix": "/direct"}, "direct_response": {"status": 418, "body": {"inline_string": "teapot"}}},
    {"match": {"prefix": "/nothing"}, "direct_response": {"status": 204}},
    {"match": {"prefix": "/moved/host"}, "redirect": {"host_redirect": "new.example", "port_redirect": 8443}},
    {"match": {"prefix": "/moved/path"}, "redirect": {"path_redirect": "/there", "response_code": "FOUND"}},
    {"match": {"prefix": "/moved/prefix"}, "redirect": {"prefix_rewrite": "/p", "https_redirect": True}},
    {
        "match": {"prefix": "/moved/strip"},
        "redirect": {"host_redirect": "new.example", "strip_query": True, "response_code": "SEE_OTHER"},
    },
    xds.rule(
        "one",
        {"prefix": "/headers"},
        request_headers_to_add=[
            _header("x-added", "1"),
            _header("x-mine", "theirs", "OVERWRITE_IF_EXISTS_OR_ADD"),
            _header("x-kept", "no", "ADD_IF_ABSENT"),
            _header("x-100", "100%%"),
        ],
        request_headers_to_remove=["x-secret"],
        response_headers_to_add=[
            _header("x-answer", "1"),
            _header("x-upstream", "us", "OVERWRITE_IF_EXISTS_OR_ADD"),
        ],
        response_headers_to_remove=["x-internal"],
    ),
    xds.rule("one", {"prefix": "/"}),
]

_NO_DELETE = [
    {"header": {"name": ":method", "string_match": {"exact": "DELETE"}}},
    {"url_path": {"path": {"prefix": "/secret"}}},
]
RBAC = {
    "@type": xds.RBAC,
    "rules": {
        "action": "DENY",
        "policies": {
            "p": {"permissions": [{"and_rules": {"rules": _NO_DELETE}}], "principals": [{"any": True}]}
        },
    },
}


def resources(address: str, port: int, one: EchoServer, two: EchoServer, refused: int) -> list[Message]:
    """The whole configuration, for a proxy that listens on `address:port`."""
    manager = xds.hcm(
        "routes",
        filters=[
            {"name": "envoy.filters.http.rbac", "typed_config": RBAC},
            {"name": FAULT, "typed_config": {"@type": xds.FAULT}},
        ],
        normalize_path=True,
        merge_slashes=True,
        codec_type="HTTP1",
    )
    return [
        xds.cluster("one"),
        xds.endpoints("one", one.address),
        xds.cluster("two"),
        xds.endpoints("two", two.address),
        xds.cluster("empty"),
        xds.endpoints("empty"),
        xds.cluster("refused"),
        xds.endpoints("refused", ("127.0.0.1", refused)),
        xds.listener("web", address, port, manager),
        xds.routes(
            "routes",
            xds.host(*RULES, domains=("test", "test:*")),
            xds.host(xds.rule("two"), domains=("*.suffix.example",)),
            xds.host(xds.rule("one"), domains=("prefix.*",)),
            xds.host(xds.rule("two"), domains=("exact.suffix.example",)),
            xds.host(xds.rule("two"), domains=("with.port:9080",)),
        ),
    ]


def _get(
    path: str = "/", host: str = "test", *headers: str, method: str = "GET", version: str = "1.1"
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", f"host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _raw(*lines: str, body: str = "") -> bytes:
    return ("\r\n".join([*lines, "", ""]) + body).encode("latin-1")


def _post(path: str, body: str, *headers: str) -> bytes:
    return _raw(f"POST {path} HTTP/1.1", "host: test", f"content-length: {len(body)}", *headers, body=body)


REQUESTS: dict[str, bytes] = {
    # -- which virtual host
    "plain": _get(),
    "host with a port": _get(host="test:8080"),
    "host in capitals": _get(host="TEST"),
    "host unknown": _get(host="nobody"),
    "host by suffix": _get(host="a.b.suffix.example"),
    "host that is only the suffix": _get(host=".suffix.example"),
    "host by prefix": _get(host="prefix.anything"),
    "host exact before suffix": _get(host="exact.suffix.example"),
    "host with the port of a domain": _get(host="with.port:9080"),
    "host without the port of a domain": _get(host="with.port"),
    "absolute form": _get("http://test/absolute?x=1", "ignored"),
    "absolute form without a path": _get("http://test", "test"),
    "absolute form with only a query": _get("http://test?x=1", "test"),
    # -- which route
    "exact path": _get("/exact"),
    "exact path with a query": _get("/exact?a=b"),
    "exact path and more": _get("/exact/more"),
    "path by parts": _get("/parts/more"),
    "path by parts, itself": _get("/parts"),
    "path by parts, no part": _get("/partsmore"),
    "path by regex": _get("/re/12"),
    "path by regex with a query": _get("/re/12?x"),
    "path by regex, not whole": _get("/re/12x"),
    "path in another case": _get("/case/x"),
    "header exact": _get("/when", "test", "x-exact: a", "x-not: a"),
    "header exact, other value": _get("/when", "test", "x-exact: b", "x-not: a"),
    "header twice": _get("/when", "test", "x-exact: a", "x-exact: a", "x-not: a"),
    "header twice, first fits": _get("/when", "test", "x-exact: a", "x-exact: b", "x-not: a"),
    "header twice, second fits": _get("/when", "test", "x-exact: b", "x-exact: a", "x-not: a"),
    "header twice, joined": _get("/when", "test", "x-exact: a,a", "x-not: a"),
    "header twice, inverted, one fits": _get("/when", "test", "x-not: a", "x-not: b"),
    "header twice, inverted, both": _get("/when", "test", "x-not: a", "x-not: a"),
    "header twice, inverted, none": _get("/when", "test", "x-not: b", "x-not: b"),
    "header twice, range": _get("/when", "test", "x-range: 5", "x-range: 50", "x-not: a"),
    "header twice, regex": _get("/when", "test", "x-regex: v1", "x-regex: v2", "x-not: a"),
    "header prefix": _get("/when", "test", "x-prefix: abc", "x-not: a"),
    "header contains": _get("/when", "test", "x-contains: a mid b", "x-not: a"),
    "header regex": _get("/when", "test", "x-regex: v1", "x-not: a"),
    "header regex, not whole": _get("/when", "test", "x-regex: v12", "x-not: a"),
    "header present": _get("/when", "test", "x-present:", "x-not: a"),
    "header range": _get("/when", "test", "x-range: 9", "x-not: a"),
    "header range, end": _get("/when", "test", "x-range: 10", "x-not: a"),
    "header range, no number": _get("/when", "test", "x-range: 9x", "x-not: a"),
    "header method": _get("/when", "test", "x-not: a", method="PUT"),
    "header inverted": _get("/when", "test", "x-not: b"),
    "header inverted, absent": _get("/when"),
    "query parameter": _get("/query?a=1&v=2"),
    "query parameter, other": _get("/query?v=22"),
    "query parameter, second": _get("/query?v=1&v=2"),
    # -- what is done
    "rewrite": _get("/rewrite/a?x=1"),
    "rewrite exact": _get("/rewrite-exact?x=1"),
    "rewrite by regex": _get("/substitute/abc/d?x=1"),
    "rewrite host": _get("/host"),
    "redirect host": _get("/moved/host/x?y=1"),
    "redirect path": _get("/moved/path/x?y=1"),
    "redirect prefix": _get("/moved/prefix/x?y=1"),
    "redirect without query": _get("/moved/strip?y=1"),
    "direct answer": _get("/direct"),
    "direct answer to HEAD": _get("/direct", method="HEAD"),
    "direct answer to POST": _post("/direct", "hello"),
    "direct answer, no content": _get("/nothing"),
    "header changes": _get("/headers?header=x-internal:1", "test", "x-mine: a", "x-kept: yes", "x-secret: s"),
    "header changes, none there": _get("/headers"),
    "access denied": _get("/secret/a", method="DELETE"),
    "access denied with a query": _get("/secret?x", method="DELETE"),
    "access allowed": _get("/secret/a"),
    "fault": _get("/abort"),
    "delay": _get("/late"),
    # -- failures
    "no cluster": _get("/missing"),
    "no endpoint": _get("/empty"),
    "connection refused": _get("/refused"),
    "upstream reset": _get("/?reset=1"),
    "upstream too slow": _get("/timeout?delay=1"),
    "upstream error": _get("/?status=503"),
    "retries exhausted": _get("/retry?status=500"),
    "retries after resets exhausted": _get("/retry?reset=1"),
    # -- bodies
    "HEAD": _get("/", method="HEAD"),
    "HEAD of a chunked answer": _get("/?chunked=1", method="HEAD"),
    "answer 204": _get("/?status=204"),
    "answer 304": _get("/?status=304"),
    "answer in chunks": _get("/?chunked=1"),
    "answer until close": _get("/?close=1"),
    "answer with server": _get("/?header=server:mine"),
    "answer with date": _get("/?header=date:Thu,+01+Jan+1970+00:00:00+GMT"),
    "answer with connection close": _get("/?header=connection:close"),
    "POST": _post("/post", "hello"),
    "POST of nothing": _post("/post", ""),
    "POST in chunks": _raw(
        "POST /c HTTP/1.1", "host: test", "transfer-encoding: chunked", body="3\r\nabc\r\n0\r\n\r\n"
    ),
    "POST in chunks with extension": _raw(
        "POST /c HTTP/1.1", "host: test", "transfer-encoding: chunked", body="3;a=b\r\nabc\r\n0\r\n\r\n"
    ),
    "POST in chunks with trailer": _raw(
        "POST /c HTTP/1.1", "host: test", "transfer-encoding: chunked", body="3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"
    ),
    # -- headers of the hop
    "connection close": _get("/", "test", "connection: close"),
    "keep-alive": _get("/", "test", "connection: keep-alive", "keep-alive: timeout=5"),
    "proxy-connection": _get("/", "test", "proxy-connection: keep-alive"),
    "TE": _get("/", "test", "te: gzip"),
    "TE trailers": _get("/", "test", "te: trailers"),
    "request id kept": _get("/", "test", "x-request-id: mine"),
    "forwarded proto kept": _get("/", "test", "x-forwarded-proto: https"),
    "forwarded for kept": _get("/", "test", "x-forwarded-for: 1.2.3.4"),
    "forwarded for an internal address": _get("/", "test", "x-forwarded-for: 10.0.0.1"),
    "forwarded for two internal addresses": _get("/", "test", "x-forwarded-for: 10.0.0.1, 10.0.0.2"),
    "forwarded for nonsense": _get("/", "test", "x-forwarded-for: nonsense"),
    "forwarded host": _get("/", "test", "x-forwarded-host: a"),
    "downstream cluster": _get("/", "test", "x-envoy-downstream-service-cluster: a"),
    "client certificate claimed": _get("/", "test", "x-forwarded-client-cert: By=me"),
    "internal header": _get("/", "test", "x-envoy-internal: true"),
    "traceparent": _get("/", "test", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    "upgrade": _get("/", "test", "connection: upgrade", "upgrade: websocket"),
    "upgrade to HTTP/2": _get(
        "/", "test", "connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"
    ),
    "CONNECT": _raw("CONNECT test:80 HTTP/1.1", "host: test:80"),
    "OPTIONS *": _raw("OPTIONS * HTTP/1.1", "host: test"),
    "HTTP/1.0": _get("/", "test", version="1.0"),
    "HTTP/1.0 without host": _raw("GET / HTTP/1.0"),
    "HTTP/0.9": _raw("GET /"),
    "HTTP/2.0 in words": _get("/", version="2.0"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # -- paths
    "dot segments": _get("/a/../exact"),
    "dot segments escaped": _get("/a/%2e%2e/exact"),
    "dot segments above the root": _get("/../../exact"),
    "double slash": _get("//exact"),
    "escaped letters": _get("/ex%61ct"),
    "escaped slash": _get("/parts%2Fx"),
    "backslash": _get("/a\\..\\exact"),
    "semicolon and dot": _get("/a/.;/exact"),
    "semicolon with a value": _get("/a/..;x=1/exact"),
    "semicolon in a segment": _get("/a/b;c/exact"),
    "semicolon at the end": _get("/exact/a/..;"),
    "semicolon of three dots": _get("/a/...;/exact"),
    "semicolon without dots": _get("/a/;/exact"),
    "semicolon escaped": _get("/a/..%3B/exact"),
    "semicolon": _get("/a/..;/exact"),
    "bad escape": _get("/%zz"),
    "escape in lower case": _get("/x%c3%a9"),
    "fragment": _get("/exact#x"),
    "raw bytes in the path": _get("/caf\xe9"),
    # -- attacks and mistakes
    "no host": _raw("GET / HTTP/1.1"),
    "empty host": _raw("GET / HTTP/1.1", "host:"),
    "two hosts": _raw("GET / HTTP/1.1", "host: test", "host: test"),
    "both lengths": _raw(
        "POST / HTTP/1.1", "host: test", "content-length: 3", "transfer-encoding: chunked", body="0\r\n\r\n"
    ),
    "both lengths, reversed": _raw(
        "POST / HTTP/1.1", "host: test", "transfer-encoding: chunked", "content-length: 3", body="0\r\n\r\n"
    ),
    "length twice": _raw(
        "POST / HTTP/1.1", "host: test", "content-length: 3", "content-length: 3", body="abc"
    ),
    "two lengths": _raw(
        "POST / HTTP/1.1", "host: test", "content-length: 3", "content-length: 4", body="abcd"
    ),
    "length list": _raw("POST / HTTP/1.1", "host: test", "content-length: 3, 3", body="abc"),
    "length with sign": _raw("POST / HTTP/1.1", "host: test", "content-length: +3", body="abc"),
    "length no number": _raw("POST / HTTP/1.1", "host: test", "content-length: x", body="abc"),
    "length huge": _raw("POST / HTTP/1.1", "host: test", "content-length: 99999999999999999999", body="abc"),
    "unknown coding": _raw("POST / HTTP/1.1", "host: test", "transfer-encoding: gzip", body="abc"),
    "chunked not last": _raw(
        "POST / HTTP/1.1", "host: test", "transfer-encoding: chunked, gzip", body="0\r\n\r\n"
    ),
    "chunked twice": _raw(
        "POST / HTTP/1.1", "host: test", "transfer-encoding: chunked, chunked", body="0\r\n\r\n"
    ),
    "chunked disguised": _raw(
        "POST / HTTP/1.1", "host: test", "transfer-encoding: xchunked", body="0\r\n\r\n"
    ),
    "bad chunk size": _raw(
        "POST / HTTP/1.1", "host: test", "transfer-encoding: chunked", body="zz\r\nabc\r\n0\r\n\r\n"
    ),
    "negative chunk size": _raw(
        "POST / HTTP/1.1", "host: test", "transfer-encoding: chunked", body="-1\r\nabc\r\n0\r\n\r\n"
    ),
    "chunk without CR": _raw(
        "POST / HTTP/1.1", "host: test", "transfer-encoding: chunked", body="3\nabc\n0\n\n"
    ),
    "chunk longer than said": _raw(
        "POST / HTTP/1.1", "host: test", "transfer-encoding: chunked", body="3\r\nabcd\r\n0\r\n\r\n"
    ),
    "folded line": _raw("GET / HTTP/1.1", "host: test", "x-a: b", " c"),
    "space before colon": _raw("GET / HTTP/1.1", "host: test", "x-a : b"),
    "space in name": _raw("GET / HTTP/1.1", "host: test", "x a: b"),
    "no name": _raw("GET / HTTP/1.1", "host: test", ": b"),
    "no colon": _raw("GET / HTTP/1.1", "host: test", "nonsense"),
    "bare CR": b"GET / HTTP/1.1\r\nhost: test\r\nx-a: b\rc\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nhost: test\n\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nhost: test\r\nx-a: b\x00c\r\n\r\n",
    "high bytes in a value": b"GET / HTTP/1.1\r\nhost: test\r\nx-a: \xff\xfe\r\n\r\n",
    "underscore in a name": _get("/", "test", "x_a: b"),
    "unknown method": _get("/", method="BREW"),
    "lower-case method": _get("/", method="get"),
    "space in the path": _raw("GET /a b HTTP/1.1", "host: test"),
    "path without slash": _raw("GET exact HTTP/1.1", "host: test"),
    "empty line first": b"\r\n" + _get(),
    "one header of 70 KB": _get("/", "test", "x-big: " + "a" * 70_000),
    "150 headers": _get("/", "test", *(f"x-{n}: 1" for n in range(150))),
    "binary": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "two requests at once": _get("/first") + _get("/exact"),
    "POST and a request behind it": _post("/post", "hello") + _get("/exact"),
}


class Seen:
    """An answer as it is compared: what differs between any two runs is left out."""

    def __init__(self, raw: bytes) -> None:
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.raw = raw
        self.status = int(lines[0].split()[1]) if raw else 0
        self.headers = sorted(_fields(lines[1:]))
        self.body: Any = _body(dict(self.headers), rest)
        if isinstance(self.body, dict):
            self.body["headers"] = sorted(_fields(f"{name}: {value}" for name, value in self.body["headers"]))

    def facts(self) -> dict[str, Any]:
        return {"status": self.status, "headers": self.headers, "body": self.body}


_VOLATILE = {"date", "x-request-id", "x-envoy-upstream-service-time", "content-length"}


def _fields(lines: Any) -> list[tuple[str, str]]:
    found = []
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if name == "x-envoy-expected-rq-timeout-ms" and 14_000 < int(value) <= 15_000:
            value = "about 15000"
        fixed = name not in _VOLATILE or value in ("mine", "Thu, 01 Jan 1970 00:00:00 GMT")
        found.append((name, value if fixed else "*"))
    return found


def _body(headers: dict[str, str], rest: bytes) -> Any:
    if headers.get("transfer-encoding") == "chunked":
        rest = _unchunk(rest)
    if rest.startswith(b"{"):
        found, end = json.JSONDecoder().raw_decode(rest.decode("latin-1"))
        if len(rest) > end:
            found["then"] = Seen(rest[end:]).facts()
        return found
    return rest.decode("latin-1")


def _unchunk(data: bytes) -> bytes:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        parts.append(data[:length])
        data = data[length + 2 :]
        if length == 0:
            break
    return b"".join(parts)


async def ask(address: tuple[str, int], data: bytes, quiet: float = 0.2) -> Seen:
    """Send the bytes and read until the proxy closes or has been silent for a while."""
    reader, writer = await asyncio.open_connection(*address)
    received = b""
    try:
        writer.write(data)
        while True:
            try:
                async with asyncio.timeout(quiet if received else 5.0):
                    piece = await reader.read(65536)
            except TimeoutError:
                break
            if not piece:
                break
            received += piece
    except ConnectionResetError:
        pass
    finally:
        writer.close()
    return Seen(received)
