"""The ADS state machine: written conversations, then any interleaving hypothesis can think of."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mesh.control.snapshot import CLUSTER, ENDPOINT, LISTENER, ORDER, ROUTE, Resource, ResourceSet, Snapshot
from mesh.control.stream import WHOLE, Request, Response, Stream


def resource(name: str, content: int, *needs: str) -> Resource:
    return Resource(name, str(content), Any(type_url="t", value=f"{name}={content}".encode()), needs)


def snapshot(**types: dict[str, int]) -> Snapshot:
    urls = {"cds": CLUSTER, "eds": ENDPOINT, "lds": LISTENER, "rds": ROUTE}
    return as_snapshot({urls[short]: found for short, found in types.items()})


def as_snapshot(types: dict[str, dict[str, int]]) -> Snapshot:
    """A cluster needs the endpoint set of its own name, as in Envoy."""
    return Snapshot(
        {
            url: ResourceSet({n: resource(n, c, *([n] if url == CLUSTER else [])) for n, c in found.items()})
            for url, found in types.items()
        }
    )


def said(responses: list[Response]) -> list[tuple[str, list[str]]]:
    short = {CLUSTER: "CDS", ENDPOINT: "EDS", LISTENER: "LDS", ROUTE: "RDS"}
    return [
        (short.get(r.type_url, r.type_url), [one.value.decode() for one in r.resources]) for r in responses
    ]


class Talk:
    """A written conversation: the proxy's lines are calls, the control plane's are asserted."""

    def __init__(self, first: Snapshot | None = None) -> None:
        self.stream = Stream()
        self.names: dict[str, tuple[str, ...]] = {}
        self.last: dict[str, Response] = {}
        if first is not None:
            assert self.stream.on_snapshot(first) == []

    def ask(self, type_url: str, *names: str) -> list[tuple[str, list[str]]]:
        """Subscribe, or change the subscription."""
        self.names[type_url] = names
        nonce = self.last[type_url].nonce if type_url in self.last else ""
        return self._heard(self.stream.on_request(Request(type_url, names, nonce)))

    def ack(self, type_url: str, *names: str) -> list[tuple[str, list[str]]]:
        return self.ask(type_url, *(names or self.names[type_url]))

    def nack(self, type_url: str, reason: str = "bad") -> list[tuple[str, list[str]]]:
        request = Request(type_url, self.names[type_url], self.last[type_url].nonce, error=reason)
        return self._heard(self.stream.on_request(request))

    def publish(self, new: Snapshot) -> list[tuple[str, list[str]]]:
        return self._heard(self.stream.on_snapshot(new))

    def _heard(self, responses: list[Response]) -> list[tuple[str, list[str]]]:
        self.last |= {response.type_url: response for response in responses}
        return said(responses)


def started(first: Snapshot) -> Talk:
    """A proxy that has everything of `first` and has accepted it."""
    talk = Talk(first)
    talk.ask(CLUSTER)
    talk.ask(ENDPOINT, *first.resources(ENDPOINT))
    talk.ask(LISTENER)
    talk.ask(ROUTE, *first.resources(ROUTE))
    for _ in range(4):
        for url in ORDER:
            if talk.stream.types[url].waiting:
                talk.ack(url)
    assert all(talk.stream.is_current(url) for url in ORDER)
    return talk


def test_types_are_published_in_order_each_after_the_last_was_accepted() -> None:
    talk = Talk(snapshot(cds={"a": 1}, eds={"a": 1}, lds={"l": 1}, rds={"r": 1}))
    assert talk.ask(CLUSTER) == [("CDS", ["a=1"])]
    assert talk.ask(LISTENER) == []
    assert talk.ask(ROUTE, "r") == []
    assert talk.ack(CLUSTER) == [("LDS", ["l=1"]), ("RDS", ["r=1"])]
    assert talk.ack(LISTENER) == []
    assert talk.ack(ROUTE) == []


def test_envoy_acknowledges_clusters_only_when_their_endpoints_have_come() -> None:
    talk = started(snapshot(cds={"a": 1}, eds={"a": 1}, lds={"l": 1}, rds={"r": 1}))
    new = snapshot(cds={"a": 1, "b": 1}, eds={"a": 1, "b": 1}, lds={"l": 1}, rds={"r": 2})
    assert talk.publish(new) == [("CDS", ["a=1", "b=1"])]
    assert talk.ask(ENDPOINT, "a", "b") == [("EDS", ["b=1"])]
    assert talk.ack(ENDPOINT) == []
    assert talk.ack(CLUSTER) == [("RDS", ["r=2"])]


def test_a_changed_cluster_has_its_endpoints_sent_again() -> None:
    base = {"eds": {"a": 1, "b": 1}, "lds": {"l": 1}, "rds": {"r": 1}}
    talk = started(snapshot(cds={"a": 1, "b": 1}, **base))
    assert talk.publish(snapshot(cds={"a": 2, "b": 1}, **base)) == [("CDS", ["a=2", "b=1"]), ("EDS", ["a=1"])]
    assert talk.ack(ENDPOINT) == []
    assert talk.ack(CLUSTER) == []


def test_endpoints_of_a_cluster_that_changes_twice_come_after_each() -> None:
    """The second change waits for the answer to the first; its endpoints must not go before it."""
    base = {"eds": {"a": 1}, "lds": {"l": 1}, "rds": {"r": 1}}
    talk = started(snapshot(cds={"a": 1}, **base))
    assert talk.publish(snapshot(cds={"a": 2}, **base)) == [("CDS", ["a=2"]), ("EDS", ["a=1"])]
    assert talk.publish(snapshot(cds={"a": 3}, **base)) == []
    assert talk.ack(ENDPOINT) == []
    assert talk.ack(CLUSTER) == [("CDS", ["a=3"]), ("EDS", ["a=1"])]


def test_a_client_that_goes_from_listener_to_endpoint_is_not_kept_waiting() -> None:
    """gRPC's own xDS client asks in this order."""
    talk = Talk(snapshot(cds={"a": 1, "b": 1}, eds={"a": 1, "b": 1}, lds={"l": 1}, rds={"r": 1}))
    assert talk.ask(LISTENER, "l") == [("LDS", ["l=1"])]
    assert talk.ack(LISTENER) == []
    assert talk.ask(ROUTE, "r") == [("RDS", ["r=1"])]
    assert talk.ack(ROUTE) == []
    assert talk.ask(CLUSTER, "a") == [("CDS", ["a=1"])]
    assert talk.ack(CLUSTER) == []
    assert talk.ask(ENDPOINT, "a") == [("EDS", ["a=1"])]


def test_only_the_changed_endpoint_set_is_sent() -> None:
    base = {"cds": {"a": 1, "b": 1}, "lds": {"l": 1}, "rds": {"r": 1}}
    talk = started(snapshot(**base, eds={"a": 1, "b": 1}))
    assert talk.publish(snapshot(**base, eds={"a": 1, "b": 2})) == [("EDS", ["b=2"])]
    assert talk.ack(ENDPOINT) == []
    assert talk.publish(snapshot(**base, eds={"a": 1, "b": 2})) == []


def test_a_cluster_goes_only_after_routes_without_it_are_accepted() -> None:
    talk = started(snapshot(cds={"old": 1}, eds={"old": 1}, lds={"l": 1}, rds={"r": 1}))
    new = snapshot(cds={"new": 1}, eds={"new": 1}, lds={"l": 1}, rds={"r": 2})
    assert talk.publish(new) == [("CDS", ["old=1", "new=1"])]
    assert talk.ask(ENDPOINT, "old", "new") == [("EDS", ["new=1"])]
    assert talk.ack(CLUSTER) == []
    assert talk.ack(ENDPOINT) == [("RDS", ["r=2"])]
    assert talk.ack(ROUTE) == [("CDS", ["new=1"])]
    assert talk.ack(CLUSTER) == []
    assert talk.ask(ENDPOINT, "new") == []


def test_refused_routes_keep_their_clusters() -> None:
    talk = started(snapshot(cds={"old": 1}, eds={"old": 1}, lds={"l": 1}, rds={"r": 1}))
    talk.publish(snapshot(cds={"new": 1}, eds={"new": 1}, lds={"l": 1}, rds={"r": 2}))
    talk.ask(ENDPOINT, "old", "new")
    talk.ack(CLUSTER)
    talk.ack(ENDPOINT)
    assert talk.nack(ROUTE, "no such filter") == []
    assert talk.stream.types[ROUTE].refusal is not None
    assert talk.stream.types[ROUTE].refusal.reason == "no such filter"
    assert "old" in talk.stream.types[CLUSTER].accepted
    fixed = snapshot(cds={"new": 1}, eds={"new": 1}, lds={"l": 1}, rds={"r": 3})
    assert talk.publish(fixed) == [("RDS", ["r=3"])]
    assert talk.ack(ROUTE) == [("CDS", ["new=1"])]


def test_refused_clusters_hold_back_routes_but_not_endpoints() -> None:
    talk = started(snapshot(cds={"a": 1}, eds={"a": 1}, lds={"l": 1}, rds={"r": 1}))
    bad = snapshot(cds={"a": 2}, eds={"a": 2}, lds={"l": 1}, rds={"r": 2})
    assert talk.publish(bad) == [("CDS", ["a=2"]), ("EDS", ["a=2"])]
    assert talk.nack(CLUSTER) == []
    assert talk.ack(ENDPOINT) == []
    good = snapshot(cds={"a": 3}, eds={"a": 2}, lds={"l": 1}, rds={"r": 2})
    assert talk.publish(good) == [("CDS", ["a=3"]), ("EDS", ["a=2"])]
    assert talk.ack(ENDPOINT) == []
    assert talk.ack(CLUSTER) == [("RDS", ["r=2"])]


def test_a_refused_response_is_not_sent_again_until_it_changes() -> None:
    base = {"cds": {"a": 1}, "eds": {"a": 1}, "lds": {"l": 1}}
    talk = started(snapshot(**base, rds={"r": 1}))
    assert talk.publish(snapshot(**base, rds={"r": 2})) == [("RDS", ["r=2"])]
    assert talk.nack(ROUTE) == []
    assert talk.publish(snapshot(**base, rds={"r": 2})) == []
    assert talk.publish(snapshot(**base, rds={"r": 1})) == [("RDS", ["r=1"])]


def test_stale_nonce_is_ignored() -> None:
    talk = started(snapshot(cds={"a": 1}, lds={"l": 1}))
    old = talk.last[CLUSTER].nonce
    assert talk.publish(snapshot(cds={"a": 2}, lds={"l": 1})) == [("CDS", ["a=2"])]
    assert talk.stream.on_request(Request(CLUSTER, (), old)) == []
    assert talk.stream.types[CLUSTER].waiting


def test_what_happens_while_a_response_is_out_is_merged() -> None:
    talk = started(snapshot(cds={"a": 1}, lds={"l": 1}))
    assert talk.publish(snapshot(cds={"a": 2}, lds={"l": 1})) == [("CDS", ["a=2"])]
    for n in range(3, 50):
        assert talk.publish(snapshot(cds={"a": n}, lds={"l": 1})) == []
    assert talk.ack(CLUSTER) == [("CDS", ["a=49"])]


def test_asking_again_for_a_forgotten_name_sends_it_again() -> None:
    talk = started(snapshot(cds={"a": 1}, eds={"a": 1, "b": 1}, lds={"l": 1}))
    assert talk.ask(ENDPOINT, "a") == []
    assert talk.ask(ENDPOINT, "a", "b") == [("EDS", ["b=1"])]


def test_an_unknown_type_gets_an_empty_answer_once() -> None:
    talk = Talk(snapshot(cds={"a": 1}))
    assert talk.ask("type.googleapis.com/other", "x") == [("type.googleapis.com/other", [])]
    assert talk.ack("type.googleapis.com/other", "x") == []


contents = st.integers(1, 3)
names = st.sampled_from("abc")


class Proxy(RuleBasedStateMachine):
    """A proxy and its control plane with whatever network between them: requests and responses arrive in
    order, and any time later. At the end, when all is delivered and accepted, the proxy has exactly what it
    should."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream()
        self.current: dict[str, dict[str, int]] = {url: {} for url in ORDER}
        self.to_proxy: list[Response] = []
        self.to_control: list[Request] = []
        self.wanted: dict[str, frozenset[str]] = {}
        self.nonce: dict[str, str] = {}
        self.held: dict[str, dict[str, str]] = {url: {} for url in ORDER}
        self.heard: dict[str, tuple[str, frozenset[str], int, str]] = {}
        self.changes = 0
        self.out = 0

    def publish(self) -> None:
        self.send(self.stream.on_snapshot(as_snapshot(self.current)))

    def send(self, responses: list[Response]) -> None:
        for response in responses:
            state = self.stream.types[response.type_url]
            wanted = state.wanted if state.wanted is not None else frozenset("*")
            clusters = (
                self.stream.types[CLUSTER].sent_version
                if response.type_url == ENDPOINT and CLUSTER in self.stream.types
                else ""
            )
            mark = (response.version, wanted, self.changes, clusters)
            assert self.heard.get(response.type_url) != mark, (
                "sent twice with the same version and subscription"
            )
            self.heard[response.type_url] = mark
        self.to_proxy += responses

    @rule(type_url=st.sampled_from(ORDER), found=st.dictionaries(names, contents, max_size=3))
    def change(self, type_url: str, found: dict[str, int]) -> None:
        self.current[type_url] = found
        self.publish()

    @rule(type_url=st.sampled_from(ORDER), wanted=st.frozensets(names))
    def subscribe(self, type_url: str, wanted: frozenset[str]) -> None:
        if type_url in WHOLE:
            wanted = frozenset()
        if type_url in self.wanted and self.wanted[type_url] == wanted:
            return
        self.wanted[type_url] = wanted
        self.changes += 1
        self.held[type_url] = {
            n: v for n, v in self.held[type_url].items() if type_url in WHOLE or n in wanted
        }
        self.to_control.append(Request(type_url, tuple(wanted), self.nonce.get(type_url, "")))

    @precondition(lambda self: self.to_proxy)
    @rule(accept=st.booleans())
    def deliver_response(self, accept: bool) -> None:
        response = self.to_proxy.pop(0)
        url, wanted = response.type_url, self.wanted[response.type_url]
        self.nonce[url] = response.nonce
        if accept:
            new = dict(one.value.decode().split("=") for one in response.resources)
            kept = {} if url in WHOLE else self.held[url]
            self.held[url] = {n: v for n, v in {**kept, **new}.items() if url in WHOLE or n in wanted}
        error = "" if accept else "no"
        self.to_control.append(Request(url, tuple(wanted), response.nonce, error=error))

    @precondition(lambda self: self.to_control)
    @rule()
    def deliver_request(self) -> None:
        self.send(self.stream.on_request(self.to_control.pop(0)))

    @invariant()
    def at_most_one_response_of_a_type_is_out(self) -> None:
        urls = [response.type_url for response in self.to_proxy]
        assert len(urls) == len(set(urls))

    def teardown(self) -> None:
        """Refusals are by content here, so a changed last snapshot is accepted in the end."""
        self.current = {url: dict.fromkeys({*found, "z"}, 9) for url, found in self.current.items()}
        self.publish()
        for _ in range(200):
            if self.to_control:
                self.deliver_request()
            elif self.to_proxy:
                self.deliver_response(True)
            else:
                break
        else:
            raise AssertionError("the conversation does not end")
        for url, wanted in self.wanted.items():
            should = {n: str(v) for n, v in self.current[url].items() if url in WHOLE or n in wanted}
            has = {n: v for n, v in self.held[url].items() if url in WHOLE or n in self.current[url]}
            assert has == should
            assert self.stream.is_current(url)


Proxy.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyInterleaving = Proxy.TestCase
