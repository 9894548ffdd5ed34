"""What the author of a rule is told."""

from __future__ import annotations

from typing import Any

from mesh.control.analyze import Finding
from mesh.control.compile import compile
from mesh.control.publish import Connection
from mesh.control.snapshot import CLUSTER, ORDER, ROUTE, Packer, build
from mesh.control.status import analyzed, reconciled, status
from mesh.control.stream import Request, Response
from mesh.control.world import World
from tests.worlds import bookinfo, objects, sidecar

RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - timeout: %ss
    route:
    - destination: {host: reviews}
"""


def world(seconds: int) -> World:
    return bookinfo(*objects(RULE % seconds))


class Proxy:
    """A proxy that answers as it is told."""

    def __init__(self, first: World) -> None:
        self.sent: list[Response] = []
        self.connection = Connection(sidecar("productpage-v1", first), self.sent.append)
        self.offer(first)
        for url in ORDER:
            names = () if url != ROUTE else tuple(compile(first, self.connection.proxy).by_type[ROUTE])
            self.connection.hear(Request(url, names))

    def offer(self, new: World) -> None:
        self.connection.offer(build(compile(new, self.connection.proxy).by_type, Packer()), new)

    def answer(self, error: str = "") -> None:
        """Answer all that comes; refuse what is about routes if there is an error."""
        while self.sent:
            response = self.sent.pop(0)
            state = self.connection.stream.types[response.type_url]
            names = () if state.wanted is None else tuple(state.wanted)
            refusal = error if response.type_url == ROUTE else ""
            self.connection.hear(Request(response.type_url, names, response.nonce, error=refusal))


def rule(of: World) -> Any:
    return of.virtual_services[0]


def test_a_rule_goes_from_waiting_to_accepted() -> None:
    first = world(1)
    proxy = Proxy(first)
    assert reconciled(rule(first), [proxy.connection]).reason == "Waiting"
    proxy.answer()
    assert proxy.connection.is_current
    assert reconciled(rule(first), [proxy.connection]).status == "True"
    assert reconciled(rule(first), []).status == "True"


def test_a_refused_rule_says_who_refused_it_and_why_and_a_good_one_heals_it() -> None:
    first, bad, good = world(1), world(2), world(3)
    proxy = Proxy(first)
    proxy.answer()
    proxy.offer(bad)
    proxy.answer("no such filter")
    said = reconciled(rule(bad), [proxy.connection])
    assert (said.status, said.reason) == ("False", "Refused")
    assert "productpage" in said.message and "RDS: no such filter" in said.message
    assert CLUSTER in proxy.connection.stream.types
    proxy.offer(good)
    proxy.answer()
    assert reconciled(rule(good), [proxy.connection]).status == "True"


def test_findings_are_told_in_full() -> None:
    doubt = Finding("IST0101", "Error", "VirtualService", "default", "reviews", "spec.hosts", "no such host")
    assert analyzed([]).status == "True"
    said = analyzed([doubt])
    assert (said.status, said.reason, said.message) == (
        "False",
        "ErrorsFound",
        "[IST0101] spec.hosts: no such host",
    )


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    fine, doubt = analyzed([]), Finding("IST0101", "Warning", "K", "n", "x", "p", "s")
    first = status(1, [fine], [], {}, "t1")
    second = status(2, [fine], [], first, "t2")
    assert second["conditions"][0]["lastTransitionTime"] == "t1" and second["observedGeneration"] == 2
    third = status(2, [analyzed([doubt])], [doubt], second, "t3")
    assert third["conditions"][0]["lastTransitionTime"] == "t3"
    assert third["validationMessages"] == [{"type": {"name": "s", "code": "IST0101"}, "level": "WARNING"}]
