"""Consistent hashing: the ring is the cluster's, the key of a request is found on its route."""

from __future__ import annotations

from dataclasses import replace

from mesh.control.compile import ROUTE, compile
from tests.mesh.control.compile.test_clusters import cluster, rule
from tests.mesh.control.compile.test_routes import routes, virtual_service
from tests.worlds import bookinfo, objects, sidecar

RING = "loadBalancer: {consistentHash: {httpHeaderName: x-user}}"
MAGLEV = (
    "loadBalancer: {consistentHash: {httpCookie: {name: s, path: /, ttl: 60s}, maglev: {tableSize: 101}}}"
)


def test_the_default_route_of_a_hashed_service_has_the_key() -> None:
    world = bookinfo(rule(f"trafficPolicy: {{{RING}}}"))
    assert cluster(world).lb_policy == cluster(world).RING_HASH
    assert cluster(world).ring_hash_lb_config.minimum_ring_size.value == 1024
    (route,) = routes(world)
    (key,) = route.route.hash_policy
    assert key.header.header_name == "x-user"
    assert not route.route.retry_policy.retry_host_predicate, "the retry belongs to the same endpoint"
    assert not routes(bookinfo())[0].route.hash_policy


def test_a_rule_finds_the_keys_of_its_destinations() -> None:
    subsets = f"""subsets: [{{name: v1, trafficPolicy: {{{RING}}}}}, {{name: v2, trafficPolicy: {{{MAGLEV}}}}},
                            {{name: v3}}]"""
    http = """[{route: [{destination: {host: reviews, subset: v1}, weight: 1},
                        {destination: {host: reviews, subset: v2}, weight: 1},
                        {destination: {host: reviews, subset: v3}, weight: 1}]}]"""
    world = bookinfo(rule(subsets), virtual_service(http))
    (route,) = routes(world)
    header, cookie = route.route.hash_policy
    assert header.header.header_name == "x-user"
    assert (cookie.cookie.name, cookie.cookie.path, cookie.cookie.ttl.seconds) == ("s", "/", 60)
    assert cluster(world, "v2").maglev_lb_config.table_size.value == 101


def test_a_changed_rule_changes_the_routes_and_no_hashing_leaves_them_alone() -> None:
    plain = bookinfo()
    first = compile(plain, sidecar()).by_type[ROUTE]["http_proxy"]
    limits = rule("trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}")
    second = plain.evolve(config={"DestinationRule": {("default", "r"): limits}})
    assert compile(second, sidecar()).by_type[ROUTE]["http_proxy"] is first
    hashed = second.evolve(config={"DestinationRule": {("default", "r"): rule(f"trafficPolicy: {{{RING}}}")}})
    assert routes(hashed)[0].route.hash_policy
    assert not routes(hashed, "ratings")[0].route.hash_policy


def test_a_rule_with_a_workload_selector_holds_for_those_clients_only() -> None:
    selecting = objects(f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: s}}
spec: {{host: reviews, workloadSelector: {{matchLabels: {{app: productpage}}}}, trafficPolicy: {{{RING}}}}}
""")[0]
    world = bookinfo(selecting, rule("trafficPolicy: {loadBalancer: {simple: RANDOM}}"))
    other = sidecar("ratings-v1", world)
    assert cluster(world).lb_policy == cluster(world).RING_HASH
    assert cluster(world, proxy=other).lb_policy == cluster(world).RANDOM
    assert routes(world)[0].route.hash_policy
    assert not routes(world, proxy=other)[0].route.hash_policy
    abroad = replace(sidecar(), namespace="shop", id="sidecar~1~a.shop~x")
    assert cluster(world, proxy=abroad).lb_policy == cluster(world).RANDOM
