"""The steps of `mesh demo`: what is applied, what visitors then do, what should be seen and what is.

Every observation comes from the mesh's telemetry or from an answer a client got, never from the YAML.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from cluster import traffic
from cluster.api import Api, ApiError, Object
from cluster.steps import Progress, Report
from cluster.up import Running, poll
from mesh.cli import demo_brief
from mesh.cli.output import CliError
from widgets.stats import CERTAIN, share

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)
PIXEL = (
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/137.0.0.0 Mobile Safari/537.36"
)
SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
"""
CANARY = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 80}
    - {destination: {host: reviews, subset: v3}, weight: 20}
"""
DEVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - match:
    - headers: {user-agent: {regex: ".*iPhone.*"}}
    route:
    - destination: {host: reviews, subset: v3}
  - route:
    - destination: {host: reviews, subset: v1}
"""
DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-ratings-for-reviews, namespace: default}
spec:
  selector: {matchLabels: {app: ratings}}
  action: DENY
  rules:
  - from:
    - source: {principals: [cluster.local/ns/default/sa/bookinfo-reviews]}
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec:
  mtls: {mode: STRICT}
"""


@dataclass(frozen=True)
class Outcome:
    """What a step saw: sentences for people, the number of requests behind them, and the verdict."""

    expected: str
    observed: str
    requests: int
    ok: bool


Run = Callable[[Running, int], Outcome]


def in_order() -> tuple[tuple[str, Run], ...]:
    """The steps, each building on the ones before it."""
    return (
        ("baseline", baseline),
        ("canary", canary),
        ("device", device),
        ("brief", brief),
        ("acl", acl),
        ("mtls", mtls),
    )


def measured(step: tuple[str, Run], running: Running, requests: int, progress: Progress) -> dict[str, Any]:
    """Run a step and give its row of the result; a step that cannot be run is one that failed, with its reason."""
    name, run = step
    began = time.monotonic()
    try:
        outcome = run(running, requests)
    except (ApiError, CliError) as error:
        outcome = Outcome("the step runs", str(error), 0, False)
    progress(Report(name, "done" if outcome.ok else "failed", time.monotonic() - began))
    return {"name": name, **vars(outcome)}


def baseline(running: Running, requests: int) -> Outcome:
    """Without rules every version of reviews answers; the quicker ones more often (Istio's LEAST_REQUEST)."""
    seen = visited(running.api, requests)
    shares = seen.versions("reviews")
    eighth = seen.sent / 8
    return Outcome(
        "every page served; reviews v1, v2, v3 in turn, each an eighth at least",
        f"{seen.pages_ok} of {seen.sent} pages served; reviews {in_words(shares)}",
        seen.sent,
        seen.pages_ok == seen.sent and set(shares) == {"v1", "v2", "v3"} and min(shares.values()) >= eighth,
    )


def canary(running: Running, requests: int) -> Outcome:
    """A weighted route sends one request in five to v3."""
    put(running.api, SUBSETS, CANARY)
    seen = visited(running.api, requests)
    shares = seen.versions("reviews")
    return Outcome(
        "reviews v1 80 %, v3 20 %",
        f"reviews {in_words(shares)}",
        seen.sent,
        seen.pages_ok == seen.sent and fits(shares, {"v1": 0.8, "v3": 0.2}),
    )


def device(running: Running, requests: int) -> Outcome:
    """A header match sends iPhones, and nobody else, to v3."""
    put(running.api, DEVICE)
    sent = 0
    versions = {}
    for name, agent in (("iPhone", IPHONE), ("Android", PIXEL)):
        seen = visited(running.api, requests // 2, {"User-Agent": agent})
        versions[name] = seen.versions("reviews")
        sent += seen.sent
    return Outcome(
        "iPhone: v3 only; Android: v1 only",
        "; ".join(f"{name}: {in_words(counts)}" for name, counts in versions.items()),
        sent,
        set(versions["iPhone"]) == {"v3"} and set(versions["Android"]) == {"v1"},
    )


def brief(running: Running, requests: int) -> Outcome:
    """Only in Southern Spain, only on iPhones, for half of the users: found out at the gateway, kept by cookie."""
    demo_brief.trust_proxies(running.api, 1)
    try:
        put(running.api, yaml.safe_dump(demo_brief.brief(100)))
        demo_brief.wait_for_effect(running)
        put(running.api, yaml.safe_dump(demo_brief.brief(50)))
        words, sent, ok = demo_brief.score(running, requests)
    finally:
        demo_brief.trust_proxies(running.api, 0)
        put(running.api, DEVICE)
    expected = "half of the users meant see v3, nobody else; everybody always sees the same"
    return Outcome(expected, words, sent, ok)


def acl(running: Running, requests: int) -> Outcome:
    """A DENY on the caller's identity closes ratings to reviews; the page lives without its stars."""
    put(running.api, DENY)
    seen = visited(
        running.api, requests // 2, {"User-Agent": IPHONE}
    )  # v3 is a version that asks for ratings
    codes = seen.codes("ratings")
    return Outcome(
        "every call reviews → ratings 403; every page served",
        f"reviews → ratings {in_words(codes)}; {seen.pages_ok} of {seen.sent} pages served",
        seen.sent,
        set(codes) == {"403"} and seen.pages_ok == seen.sent,
    )


def mtls(running: Running, requests: int) -> Outcome:
    """STRICT refuses plaintext and leaves the mesh's own traffic, which is mutual TLS already, alone."""
    before = plaintext_status(running.api)
    put(running.api, STRICT)
    refused = not poll(lambda: "served" if plaintext_status(running.api) == 200 else "", 5.0)
    seen = visited(running.api, requests // 2)
    security = seen.by("connection_security_policy", reporter="destination")
    return Outcome(
        "plaintext from outside the mesh: served before, refused after; all else mutual TLS, every page served",
        f"plaintext: {before} before, {'refused' if refused else 'served'} after; {in_words(security)}; "
        f"{seen.pages_ok} of {seen.sent} pages served",
        seen.sent,
        before == 200 and refused and set(security) == {"mutual_tls"} and seen.pages_ok == seen.sent,
    )


# --- acting -------------------------------------------------------------------------------------------------


def put(api: Api, *texts: str) -> None:
    """Apply objects and wait until every proxy has taken what follows from them. Raises CliError, ApiError."""
    for text in texts:
        stored, _ = api.apply(yaml.safe_load(text))
        if problem := poll(partial(not_in_effect, api, stored), 10.0):
            raise CliError(problem)


def not_in_effect(api: Api, applied: Object) -> str:
    """Empty once the control plane reports this generation as taken by all proxies (Istio: `Reconciled`)."""
    meta = applied["metadata"]
    name = f"{applied['kind']} {meta['name']}"
    now = api.get(applied["apiVersion"], applied["kind"], meta["name"], meta["namespace"])
    status = (now or {}).get("status", {})
    if int(status.get("observedGeneration", 0)) < meta["generation"]:
        return f"{name}: the control plane has not seen it within 10 s"
    for condition in status.get("conditions", []):
        if condition["type"] == "Reconciled" and condition["status"] != "True":
            return f"{name}: {condition.get('message', 'not taken by every proxy')}"
    return ""


@dataclass(frozen=True)
class Seen:
    """What visitors got and what the mesh saw of it, between two moments."""

    api: Api
    began: float
    sent: int
    pages_ok: int

    def by(self, label: str, **where: str) -> dict[str, int]:
        """Requests since `began`, by one label."""
        now = time.time()
        return traffic.requests(self.api, (label,), now - self.began, end=now, where=where).totals(label)

    def versions(self, service: str) -> dict[str, int]:
        """Requests to a service by the version that answered, as its callers saw it."""
        return self.by("destination_version", reporter="source", destination_service_name=service)

    def codes(self, service: str) -> dict[str, int]:
        """Requests to a service by status, as its callers saw it."""
        return self.by("response_code", reporter="source", destination_service_name=service)


def visited(api: Api, count: int, headers: dict[str, str] | None = None) -> Seen:
    """Send visitors, and wait until telemetry has heard of all of them. Raises CliError, ApiError."""
    traffic.plan(api, {"rate": 0})  # whoever was visiting leaves first
    time.sleep(1.05 - time.time() % 1.0)  # telemetry counts by the second: begin with a fresh one
    began = time.time()
    stats = traffic.visit(api, count, headers=headers)
    seen = Seen(api, began, stats["sent"], stats["ok"])
    want = stats["sent"]

    def missing() -> str:
        heard = seen.by("reporter", reporter="source", destination_service_name="productpage")
        total = sum(heard.values())
        return "" if total >= want else f"telemetry has heard of {total} of {want} requests"

    problem = poll(missing, 5.0)
    if problem:
        raise CliError(problem)
    return seen


def plaintext_status(api: Api) -> int:
    """The status of a request to details from outside the mesh, by the API server's own plaintext connection."""
    return api.service("default", "details", 9080, "/details/0").status


# --- judging ------------------------------------------------------------------------------------------------


def fits(counts: dict[str, int], expected: dict[str, float]) -> bool:
    """Whether every expected share lies in the confidence interval of the observed one, and nothing else came."""
    total = sum(counts.values())
    if not total or set(counts) != set(expected):
        return False
    return all(share(counts[key], total, CERTAIN).holds(part) for key, part in expected.items())


def in_words(counts: dict[str, int]) -> str:
    """`v1 80.2 %, v3 19.8 %`"""
    total = sum(counts.values())
    if not total:
        return "nothing"
    return ", ".join(f"{key or 'none'} {100 * n / total:.1f} %" for key, n in sorted(counts.items()))


def memory_mb(running: Running) -> float | None:
    """Proportional set size of all the cluster's processes in MB; None where the OS does not tell (macOS)."""
    total = running.cluster.memory()
    return None if total is None else round(total / 1e6, 1)
