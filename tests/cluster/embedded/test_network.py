"""Services by address, by node port and by name; the shim; half-closed connections."""

import json
import socket
import threading
from typing import Any

import pytest

from cluster.embedded import shim, slots
from cluster.embedded.hosts import entries
from cluster.embedded.kubeproxy import backends_of, routes_of
from tests.cluster.conftest import Lab

ECHO = """
import os, socket
server = socket.create_server(("", 7000))
print(server.getsockname()[0], flush=True)
while True:
    connection, peer = server.accept()
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    connection.sendall(f"{os.environ['HOSTNAME']} {peer[0]} {len(data)}".encode())
    connection.close()
"""


def service(name: str, **spec: Any) -> dict[str, Any]:
    whole = {"selector": {"app": name}, "ports": [{"port": 7777, "targetPort": 7000}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": whole}


def echo(lab: Lab, name: str) -> dict[str, Any]:
    return lab.pod(name, command=["python", "-c", ECHO], readinessProbe={"exec": {"command": ["true"]}})


def talk(host: str, port: int, data: bytes) -> list[str]:
    """Send, half-close, read to the end."""
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer.decode().split()


def test_a_service_relays_a_half_closed_connection_whole(lab: Lab) -> None:
    lab.apply(echo(lab, "echo"), service("echo", type="NodePort"))
    lab.kubectl("wait", "--for=condition=Ready", "pod/echo", "--timeout=10s")
    spec = lab.get("service", "echo")["spec"]
    lab.until(lambda: lab.run("logs", "echo").stdout)
    assert lab.kubectl("logs", "echo").strip() == lab.get("pod", "echo")["status"]["podIP"]
    lab.until(lambda: talk_or_nothing(spec["clusterIP"], 7777, b"x"))
    assert talk(spec["clusterIP"], 7777, b"x" * 3_000_000)[::2] == ["echo", "3000000"]
    node = lab.cluster.server.removeprefix("https://").split(":")[0]
    assert talk(node, spec["ports"][0]["nodePort"], b"y")[::2] == ["echo", "1"]
    lab.kubectl("delete", "service", "echo")
    lab.until(lambda: not talk_or_nothing(spec["clusterIP"], 7777, b"x"))


def talk_or_nothing(host: str, port: int, data: bytes) -> list[str]:
    try:
        return talk(host, port, data)
    except OSError:
        return []


def test_many_connections_at_once(lab: Lab) -> None:
    lab.apply(echo(lab, "echo"), service("echo"))
    address = lab.get("service", "echo")["spec"]["clusterIP"]
    lab.until(lambda: talk_or_nothing(address, 7777, b"x"))
    answers: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(talk_or_nothing(address, 7777, b"z" * 50_000)))
        for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer[2] for answer in answers if answer] == ["50000"] * 40


def test_names_resolve_in_forked_and_executed_pythons(lab: Lab) -> None:
    ask = """
import socket, sys
for name in ("echo", "echo.{0}", "echo.{0}.svc", "echo.{0}.svc.cluster.local", "many"):
    s = socket.create_connection((name.format(sys.argv[1]), 7777 if name != "many" else 7000), timeout=5)
    s.sendall(b"hi"); s.shutdown(socket.SHUT_WR)
    print(s.recv(1000).decode(), flush=True)
try:
    socket.getaddrinfo("nobody.default.svc.cluster.local", 80)
except socket.gaierror as error:
    print(error)
"""
    lab.apply(echo(lab, "echo"), service("echo"), service("many", clusterIP="None", selector={"app": "echo"}))
    lab.kubectl("wait", "--for=condition=Ready", "pod/echo", "--timeout=10s")
    lab.apply(lab.pod("ask", command=["python", "-c", ask, lab.namespace], restartPolicy="OnFailure"))
    lab.until(lambda: lab.get("pod", "ask").get("status", {}).get("phase") == "Succeeded")
    own = lab.get("pod", "ask")["status"]["podIP"]
    *answers, unknown = lab.kubectl("logs", "ask").strip().splitlines()
    assert (
        answers == [f"echo {own} 2"] * 5
    )  # the echo sees the asking pod's own address, through the Service too
    assert "Name or service not known" in unknown


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("reviews", ["reviews.shop", "reviews"]),
        ("reviews.other", ["reviews.other.shop", "reviews.other"]),
        ("reviews.other.svc", ["reviews.other"]),
        ("Reviews.other.svc.cluster.local.", ["reviews.other"]),
    ],
)
def test_what_a_name_may_mean(name: str, keys: list[str]) -> None:
    assert shim.candidates(name, "shop") == keys


def test_hosts_know_headless_and_external_services() -> None:
    def svc(name: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": "n"}, "spec": spec}

    item = {
        "metadata": {"namespace": "n", "labels": {"kubernetes.io/service-name": "h"}},
        "endpoints": [
            {"addresses": ["127.9.1.1"], "hostname": "a", "conditions": {"ready": True}},
            {"addresses": ["127.9.1.3"], "conditions": {"ready": False}},
        ],
    }
    services = [svc("c", clusterIP="127.9.128.2"), svc("h", clusterIP="None")]
    services.append(svc("e", type="ExternalName", externalName="example.org"))
    assert json.loads(json.dumps(entries(services, [item], {}))) == {
        "c.n": [["127.9.128.2", {}]],
        "h.n": [["127.9.1.1", {}]],
        "a.h.n": [["127.9.1.1", {}]],
        "e.n": [["example.org", {}]],
    }


def test_terminating_endpoints_serve_only_if_there_are_no_others() -> None:
    def endpoint(address: str, ready: bool, terminating: bool) -> dict[str, Any]:
        conditions = {"ready": ready, "serving": True, "terminating": terminating}
        return {"addresses": [address], "conditions": conditions}

    ports = [{"name": "http", "port": 80}]
    both = [endpoint("a", True, False), endpoint("b", False, True)]
    assert backends_of([{"ports": ports, "endpoints": both}], "http") == [("a", 80)]
    assert backends_of([{"ports": ports, "endpoints": both[1:]}], "http") == [("b", 80)]
    assert backends_of([{"ports": ports, "endpoints": both}], "other") == []


def test_headless_services_and_udp_are_not_listened_for() -> None:
    spec = {"clusterIP": "None", "ports": [{"port": 1, "protocol": "TCP"}]}
    assert routes_of({"metadata": {"name": "h", "namespace": "n"}, "spec": spec}, "127.9.0.1") == set()
    spec = {"clusterIP": "127.9.128.2", "ports": [{"port": 53, "protocol": "UDP"}]}
    assert routes_of({"metadata": {"name": "h", "namespace": "n"}, "spec": spec}, "127.9.0.1") == set()


def test_address_pairs_are_distinct_and_reused_late() -> None:
    allocator = slots.PairAllocator(slots.Slot(9))
    first = allocator.take()
    allocator.give_back(first)
    others = [allocator.take() for _ in range(300)]
    addresses = {address for pair in others for address in (pair.pod, pair.inside)}
    assert len(addresses) == 600 and first.pod not in addresses
    assert all(int(address.split(".")[2]) < 128 for address in addresses)
    with pytest.raises(ValueError, match="no pod address"):
        slots.Slot(9).pair(127 * 127)


def test_servers_of_every_kind_listen_at_the_pods_address(lab: Lab) -> None:
    script = """
import asyncio, socket, socketserver, sys
async def main():
    for host in (None, "", "0.0.0.0"):
        server = await asyncio.start_server(lambda r, w: None, host, 0)
        print(*{s.getsockname()[0] for s in server.sockets})
asyncio.run(main())
print(socketserver.TCPServer(("", 0), None).server_address[0], socket.create_server(("0.0.0.0", 0)).getsockname()[0])
try:
    socket.socket(socket.AF_INET6).bind(("::", 0))
except OSError as error:
    print(error.strerror)
print(socket.create_server(("127.0.0.1", 0)).getsockname()[0])
"""
    lab.apply(lab.pod("servers", command=["python", "-c", script], restartPolicy="Never"))
    lab.until(lambda: lab.get("pod", "servers").get("status", {}).get("phase") == "Succeeded")
    own = lab.get("pod", "servers")["status"]["podIP"]
    expected = [own, own, own, f"{own} {own}", "IPv6 is not available in this pod", "127.0.0.1"]
    assert lab.kubectl("logs", "servers").splitlines() == expected
