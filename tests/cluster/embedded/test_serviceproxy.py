"""HTTP through the API server to a Service's or pod's server: names, ports, streaming, what is passed on and what
not.
"""

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import urllib3

from cluster.embedded.serviceproxy import Name, read_name
from cluster.embedded.status import ApiError

GO_ON = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.endswith("/slow"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            GO_ON.wait(10)
            self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")
            return
        if self.path.endswith("/broken"):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return
        seen = f"{self.command} {self.path} auth={self.headers.get('Authorization')} x={self.headers.get('X-Test')}"
        self._say(200, seen.encode())

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        self._say(201, self.rfile.read(size))

    def _say(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Back", "end")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def proxied(api: Any, namespace: str) -> Iterator[str]:
    """The proxy path of a Service with one endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "other", "port": 81}]
    base = f"/api/v1/namespaces/{namespace}"
    api.must("POST", f"{base}/services", {"metadata": {"name": "web"}, "spec": {"ports": ports}})
    slice_ = {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["127.0.0.1"], "conditions": {"ready": True}},
            {"addresses": ["127.0.0.9"], "conditions": {"ready": False}},
        ],
        "ports": [{"name": "http", "port": server.server_port}],
    }
    api.must("POST", f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", slice_)
    yield f"{base}/services"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["web:http", "web:80", "http:web:80"])
def test_get(api: Any, proxied: str, name: str) -> None:
    answer = api.send("GET", f"{proxied}/{name}/proxy/a%2Fb/c?q=1&q=2", **{"X-Test": "yes"})
    assert answer.data.decode() == "GET /a%2Fb/c?q=1&q=2 auth=None x=yes"
    assert (answer.status, answer.headers["X-Back"]) == (200, "end")


def test_post_and_large_bodies(api: Any, proxied: str) -> None:
    body = b"0123456789" * 1_000_000
    answer = api.send("POST", f"{proxied}/web:http/proxy/", body, media="application/octet-stream")
    assert answer.status == 201 and answer.data == body


def test_who_waits_to_be_told_to_send_is_told(api: Any, proxied: str) -> None:
    """`Expect: 100-continue`, which curl sends before a large body."""
    where = urllib3.util.parse_url(api.server)
    context = ssl.create_default_context(cafile=str(api.state / "pki" / "ca.crt"))
    head = f"POST {proxied}/web:http/proxy/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
    head += "Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with socket.create_connection((where.host, where.port), 10) as raw:
        with context.wrap_socket(raw, server_hostname=where.host) as connection:
            connection.sendall(head.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
            connection.sendall(b"hi")
            assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b"hi")


def test_answers_stream(api: Any, proxied: str) -> None:
    GO_ON.clear()
    headers = {"Authorization": f"Bearer {api.token}"}
    answer = api.http.request(
        "GET", f"{api.server}{proxied}/web:http/proxy/slow", headers=headers, preload_content=False
    )
    assert answer.read1(100) == b"first"
    GO_ON.set()
    assert answer.read() == b"second"


def test_half_an_answer_is_not_taken_for_a_whole(api: Any, proxied: str) -> None:
    with pytest.raises(urllib3.exceptions.HTTPError):
        api.send("GET", f"{proxied}/web:http/proxy/broken")


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("web", 400, "several ports"),
        ("web:nope", 503, 'no service port "nope" found for service "web"'),
        ("web:other", 503, 'no endpoints available for service "web"'),
        ("nosuch:80", 404, 'services "nosuch" not found'),
        ("ftp:web:80", 400, "invalid name in a proxy request"),
    ],
)
def test_refusals(api: Any, proxied: str, name: str, code: int, says: str) -> None:
    got, status = api.call("GET", f"{proxied}/{name}/proxy/")
    assert got == code and says in status["message"]


def test_upgrade_is_refused(api: Any, proxied: str) -> None:
    extra = {"Connection": "Upgrade", "Upgrade": "websocket"}
    code, status = api.call("GET", f"{proxied}/web:http/proxy/", **extra)
    assert code == 400 and "upgrad" in status["message"]


def test_names() -> None:
    assert read_name("https:web:443") == Name("https", "web", "443")
    assert read_name("web") == Name("http", "web", "")
    with pytest.raises(ApiError):
        read_name("a:b:c:d")
