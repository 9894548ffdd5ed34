"""Interception for real: the rules in a network namespace, an app and our proxy inside, clients on both sides."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from mesh.control.compile import compile
from mesh.control.world import Endpoint, Proxy, ServicePort, WorkloadPort, World
from tests.support.ads import AdsServer
from tests.support.echo import EchoServer
from tests.support.pods import Pod, why_not
from tests.worlds import by_kind, endpoint, objects, service
from tests.worlds import pod as workload

MISSING = why_not()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

GET = "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
EXCLUDED_IN, EXCLUDED_OUT = 8022, 8444
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: mesh-system}
spec: {mtls: {mode: STRICT}}
"""


def world(pod: Pod, outside_http: int, outside_greet: int, strict: bool) -> World:
    """Service `far` (HTTP) and `store` (TCP, the server speaks first) outside; `web` is the pod itself."""
    far = service("far", ServicePort("http", 80, outside_http), cluster_ip=pod.cluster_ip)
    store = service("store", ServicePort("tcp", 6000, outside_greet, "TCP"), cluster_ip=pod.cluster_ip)
    web = service("web", ServicePort("http", 9080, 9080), cluster_ip=pod.cluster_ip)
    own = workload(
        "web-v1",
        pod.address,
        {"app": "web"},
        ports=(WorkloadPort(9080, "http"), WorkloadPort(3306, "tcp-db", "TCP")),
        service_account="bookinfo-web",
    )
    return World(
        services={each.key: each for each in (far, store, web)},
        workloads={(own.namespace, own.name): own},
        endpoints={
            far.key: (Endpoint(pod.outside, outside_http, "http"),),
            store.key: (Endpoint(pod.outside, outside_greet, "tcp"),),
            web.key: (endpoint(own, 9080, "http") if strict else Endpoint(pod.address, 9080, "http"),),
        },
        config=by_kind(objects(STRICT)) if strict else {},
    )


class Around:
    """The pod and what is around it."""

    def __init__(self, pod: Pod, greeting: int, proxy: subprocess.Popen[str]) -> None:
        self.pod, self.greeting, self._proxy = pod, greeting, proxy

    async def stop_proxy(self) -> None:
        self._proxy.terminate()
        await asyncio.to_thread(self._proxy.wait, 10)

    async def inside(self, host: str, port: int, text: str = "", uid: int = 1000) -> str:
        return await asyncio.to_thread(self.pod.say, host, port, text, uid)

    async def outside(self, port: int, text: str = "") -> str:
        reader, writer = await asyncio.open_connection(self.pod.address, port)
        try:
            writer.write(text.encode())
            return (await asyncio.wait_for(reader.read(65536), 10)).decode()
        finally:
            writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 hello from outside\n")
    await reader.read(100)
    writer.close()


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


@pytest.fixture
async def around(program: str, strict: bool) -> AsyncIterator[Around]:
    pod = Pod(1 + strict + 2 * (program == "nft"))
    pod.start()
    ads = await AdsServer().start(host=pod.outside)
    far = await EchoServer("far").start(pod.outside)
    store = await asyncio.start_server(greet, pod.outside, 0)
    excluded = await asyncio.start_server(greet, pod.outside, EXCLUDED_OUT)
    try:
        apply(pod, program)
        me = Proxy(
            f"sidecar~{pod.address}~web-v1-0.default~default.svc.cluster.local",
            "sidecar", pod.address, "default", "web-v1-0", {"app": "web"}, interception="REDIRECT",
        )  # fmt: skip
        compiled = compile(world(pod, far.address[1], port_of(store), strict), me)
        await ads.serve(*(message for named in compiled.by_type.values() for message in named.values()))
        env = {"POD_NAME": "web-v1-0", "POD_NAMESPACE": "default", "INSTANCE_IP": pod.address,
               "ISTIO_META_INTERCEPTION_MODE": "REDIRECT"}  # fmt: skip
        app = (sys.executable, "-m", "tests.support.pod_app", "http=9080,7777", f"greet=3306,{EXCLUDED_IN}")
        proxy = (sys.executable, "-m", "tests.support.pod_proxy", f"{pod.outside}:{ads.port}")
        with pod.running(*app):
            starting = pod.running(*proxy, uid=1337, env=env)
            process = await asyncio.to_thread(starting.__enter__)
            try:
                yield Around(pod, port_of(store), process)
            finally:
                await asyncio.to_thread(starting.__exit__, None, None, None)
    finally:
        for server in (store, excluded):
            server.close()
        await far.stop()
        await ads.stop()
        pod.stop()


def apply(pod: Pod, program: str) -> None:
    """As the init container does it; twice, since the kubelet may run it again. nft: by its own dry run."""
    options = [
        "--istio-local-exclude-ports",
        str(EXCLUDED_IN),
        "--istio-local-outbound-ports-exclude",
        str(EXCLUDED_OUT),
    ]
    redirect = [sys.executable, "-m", "mesh.proxy.redirect", *options]
    if program == "nft":
        text = pod.run(*redirect, "--dry-run", "nft", uid=0).stdout
        redirect = ["sh", "-c", f"nft -f - <<'END'\n{text}\nEND"]
    for _ in range(2):
        done = pod.run(*redirect, uid=0)
        assert done.returncode == 0, done.stderr


NFT = pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")


@pytest.mark.parametrize(("program", "strict"), [("iptables", False), pytest.param("nft", False, marks=NFT)])
async def test_traffic_takes_the_way_it_should(around: Around) -> None:
    pod = around.pod
    # Out, HTTP: by the Host header to the service, whatever address the name resolved to.
    answer = await around.inside(pod.cluster_ip, 80, GET.format(host="far"))
    assert answer.startswith("HTTP/1.1 200") and "x-envoy-upstream-service-time" in answer, answer
    assert "x-upstream: far" in answer
    # Out, TCP of a service whose server speaks first.
    assert await around.inside(pod.cluster_ip, 6000) == "220 hello from outside\n"
    # Out, to what the mesh does not know: on to where it was going.
    assert await around.inside(pod.outside, around.greeting) == "220 hello from outside\n"
    # The app asks itself by its service: out through the sidecar, in again through it.
    answer = await around.inside(pod.cluster_ip, 9080, GET.format(host="web:9080"))
    assert "x-upstream: app-9080" in answer, answer
    # Loopback is the app's own affair.
    assert "x-envoy" not in await around.inside("127.0.0.1", 9080, GET.format(host="localhost"))
    # In: HTTP of a declared port, and of one nobody declared.
    answer = await around.outside(9080, GET.format(host="web"))
    assert "x-upstream: app-9080" in answer and "x-envoy-upstream-service-time" in answer
    assert "x-upstream: app-7777" in await around.outside(7777, GET.format(host="web"))
    # In: the server speaks first, and sees the sidecar's address; an excluded port sees the client's.
    assert await around.outside(3306) == "220 welcome 127.0.0.6\n"
    assert await around.outside(EXCLUDED_IN) == f"220 welcome {pod.outside}\n"
    # The proxy's own ports are nobody's destination.
    answer = await around.inside(pod.address, 15001, "x")
    assert not answer or answer.startswith("error"), answer

    # Without the proxy: what is caught finds nobody, what is excluded never needed it.
    await around.stop_proxy()
    assert "refused" in await around.inside(pod.cluster_ip, 80, GET.format(host="far"))
    with pytest.raises(ConnectionRefusedError):
        await around.outside(9080)
    assert await around.inside(pod.outside, EXCLUDED_OUT) == "220 hello from outside\n"
    assert await around.outside(EXCLUDED_IN) == f"220 welcome {pod.outside}\n"


@pytest.mark.parametrize(("program", "strict"), [("iptables", True)])
async def test_with_strict_mutual_tls_only_the_mesh_gets_in(around: Around) -> None:
    """The pod asks itself, so that one proxy is both ends of the TLS connection."""
    pod = around.pod
    answer = await around.inside(pod.cluster_ip, 9080, GET.format(host="web:9080"))
    assert "x-upstream: app-9080" in answer, answer
    assert "URI=spiffe://cluster.local/ns/default/sa/bookinfo-web" in answer, "the app is told who called"
    for port in (9080, 7777, 3306):
        with pytest.raises((ConnectionResetError, AssertionError)):
            assert await around.outside(port, GET.format(host="web"))
    assert await around.outside(EXCLUDED_IN) == f"220 welcome {pod.outside}\n"
