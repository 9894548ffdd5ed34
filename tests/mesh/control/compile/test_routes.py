"""Virtual hosts and routes: which rule holds for which host, port and client."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.control.compile import ROUTE, compile
from mesh.control.world import MeshConfig, Proxy, Service, ServicePort, World
from tests.worlds import bookinfo, objects, sample, service, sidecar


def hosts(world: World, proxy: Proxy | None = None) -> dict[str, Any]:
    """The virtual hosts of a sidecar, by name."""
    config = compile(world, proxy or sidecar()).by_type[ROUTE]["http_proxy"]
    return {host.name: host for host in config.virtual_hosts}  # type: ignore[attr-defined]


def routes(world: World, host: str = "reviews", proxy: Proxy | None = None, port: int = 9080) -> list[Any]:
    return list(hosts(world, proxy)[f"{host}.default.svc.cluster.local:{port}"].routes)


def virtual_service(http: str, host: str = "reviews", **metadata: str) -> Any:
    """A VirtualService with these http rules (YAML of the list)."""
    spec = f"spec: {{hosts: [{host}], http: {http}}}"
    text = f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {metadata or {'name': 'r'}}\n{spec}"
    return objects(text)[0]


def with_service(world: World, *more: Service) -> World:
    return world.evolve(services={**world.services, **{each.key: each for each in more}})


def test_a_service_without_rules_gets_the_default_route() -> None:
    (route,) = routes(bookinfo())
    assert route.name == "default"
    assert route.route.cluster == "outbound|9080||reviews.default.svc.cluster.local"
    assert route.route.timeout.ToMilliseconds() == 0
    assert route.route.HasField("timeout")
    assert route.route.retry_policy.num_retries.value == 2
    assert route.route.retry_policy.retry_on.startswith(
        "connect-failure,refused-stream,unavailable,cancelled"
    )


def test_domains_are_all_the_names_a_client_may_use() -> None:
    local = hosts(bookinfo())["reviews.default.svc.cluster.local:9080"]
    assert list(local.domains) == [
        "reviews.default.svc.cluster.local:9080",
        "reviews.default.svc:9080",
        "reviews.default:9080",
        "reviews:9080",
    ]


def test_port_80_needs_no_port_and_other_namespaces_need_the_namespace() -> None:
    world = with_service(
        bookinfo(), service("web", ServicePort("http", 80, 80), namespace="other", cluster_ip="10.9.9.9")
    )
    domains = list(hosts(world)["web.other.svc.cluster.local:80"].domains)
    assert domains[-4:] == ["web.other", "web.other:80", "10.9.9.9", "10.9.9.9:80"]
    assert "web" not in domains


def test_weights_become_shares_and_zero_is_left_out() -> None:
    http = """[{route: [{destination: {host: reviews, subset: v1}, weight: 3},
                        {destination: {host: reviews, subset: v2}, weight: 1},
                        {destination: {host: reviews, subset: v3}, weight: 0}]}]"""
    (route,) = routes(bookinfo(virtual_service(http)))
    shares = [(share.name, share.weight.value) for share in route.route.weighted_clusters.clusters]
    suffix = "reviews.default.svc.cluster.local"
    assert shares == [(f"outbound|9080|v1|{suffix}", 3), (f"outbound|9080|v2|{suffix}", 1)]


def test_the_order_of_rules_is_kept_and_one_without_match_shadows_the_rest() -> None:
    http = """[{name: a, match: [{uri: {prefix: /a}}, {uri: {exact: /b}}], route: [{destination: {host: reviews}}]},
               {name: c, route: [{destination: {host: ratings}}]},
               {name: d, match: [{uri: {prefix: /d}}], route: [{destination: {host: details}}]}]"""
    assert [route.name for route in routes(bookinfo(virtual_service(http)))] == ["a", "a", "c"]


def test_istios_jason_goes_to_v2() -> None:
    jason, others = routes(bookinfo(*sample("virtual-service-reviews-test-v2")))
    assert (jason.match.headers[0].name, jason.match.headers[0].string_match.exact) == ("end-user", "jason")
    assert "|v2|" in jason.route.cluster
    assert "|v1|" in others.route.cluster


def test_short_names_resolve_in_the_namespace_of_the_object() -> None:
    rule = virtual_service(
        "[{route: [{destination: {host: reviews}}]}]",
        "reviews.default.svc.cluster.local",
        name="r",
        namespace="other",
    )
    (route,) = routes(bookinfo(rule))
    assert route.route.cluster == "outbound|9080||reviews.other.svc.cluster.local"


def test_export_to_hides_a_rule_from_other_namespaces() -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r, namespace: other}
spec:
  hosts: [reviews.default.svc.cluster.local]
  exportTo: ["."]
  http: [{directResponse: {status: 418}}]
"""
    assert routes(bookinfo(*objects(text)))[0].name == "default"
    shown = text.replace('["."]', "[default]")
    assert routes(bookinfo(*objects(shown)))[0].direct_response.status == 418


def test_source_labels_choose_among_clients() -> None:
    http = """[{match: [{sourceLabels: {app: ratings}}], directResponse: {status: 418}},
               {route: [{destination: {host: reviews}}]}]"""
    world = bookinfo(virtual_service(http))
    assert len(routes(world, proxy=sidecar("ratings-v1"))) == 1
    assert len(routes(world, proxy=sidecar("details-v1"))) == 1
    assert routes(world, proxy=sidecar("ratings-v1"))[0].direct_response.status == 418
    assert routes(world, proxy=sidecar("details-v1"))[0].route.cluster


def test_a_rule_that_is_for_nobody_here_leaves_the_default_route() -> None:
    http = "[{match: [{sourceLabels: {app: nobody}}], directResponse: {status: 418}}]"
    assert routes(bookinfo(virtual_service(http)))[0].name == "default"


def test_the_older_of_two_virtual_services_for_a_host_wins() -> None:
    old = virtual_service(
        "[{directResponse: {status: 200}}]", name="z", creationTimestamp="2026-01-01T00:00:00Z"
    )
    new = virtual_service(
        "[{directResponse: {status: 201}}]", name="a", creationTimestamp="2026-02-01T00:00:00Z"
    )
    assert routes(bookinfo(new, old))[0].direct_response.status == 200


def test_an_exact_host_wins_over_a_wildcard() -> None:
    wild = virtual_service("[{directResponse: {status: 201}}]", '"*.default.svc.cluster.local"', name="a")
    world = bookinfo(wild, virtual_service("[{directResponse: {status: 200}}]"))
    assert routes(world)[0].direct_response.status == 200
    assert routes(world, "ratings")[0].direct_response.status == 201


def test_a_missing_service_or_subset_is_a_cluster_that_does_not_exist() -> None:
    http = "[{route: [{destination: {host: nowhere, subset: v9}}]}]"
    (route,) = routes(bookinfo(virtual_service(http)))
    assert route.route.cluster == "outbound|9080|v9|nowhere.default.svc.cluster.local"


def test_the_port_of_a_destination_is_its_only_one_or_that_of_the_request() -> None:
    one = service("one", ServicePort("http", 81, 81))
    two = service("two", ServicePort("http", 81, 81), ServicePort("http-b", 82, 82))
    http = "[{route: [{destination: {host: one}, weight: 1}, {destination: {host: two}, weight: 1}]}]"
    (route,) = routes(with_service(bookinfo(virtual_service(http)), one, two))
    names = [share.name for share in route.route.weighted_clusters.clusters]
    assert [name.split("|")[1] for name in names] == ["81", "9080"]


def test_all_that_a_rule_says_is_in_the_route() -> None:
    http = """[{name: n, match: [{name: m, method: {exact: GET}}], timeout: 2s,
        rewrite: {uri: /x, authority: y}, mirror: {host: details}, mirrorPercentage: {value: 0.5},
        retries: {attempts: 3, perTryTimeout: 1s, retryOn: "reset,503"},
        fault: {abort: {httpStatus: 500, percentage: {value: 0.1}}},
        headers: {request: {set: {a: b}, remove: [c]}, response: {add: {d: e}}},
        route: [{destination: {host: reviews}, headers: {request: {add: {f: g}}}}]}]"""
    (route,) = routes(bookinfo(virtual_service(http)))
    action = route.route
    assert route.name == "n.m"
    assert route.match.headers[0].name == ":method"
    assert (action.timeout.seconds, action.prefix_rewrite, action.host_rewrite_literal) == (2, "/x", "y")
    assert action.request_mirror_policies[0].runtime_fraction.default_value.numerator == 5000
    retries = action.retry_policy
    assert (retries.num_retries.value, retries.retry_on) == (3, "reset,retriable-status-codes")
    assert list(retries.retriable_status_codes) == [503]
    assert "envoy.filters.http.fault" in route.typed_per_filter_config
    assert [option.header.key for option in route.request_headers_to_add] == ["a", "f"]
    assert list(route.request_headers_to_remove) == ["c"]
    assert route.response_headers_to_add[0].header.value == "e"
    assert route.metadata.filter_metadata["istio"]["config"].endswith("/virtual-service/r")


def test_attempts_zero_turns_retries_off() -> None:
    (route,) = routes(
        bookinfo(virtual_service("[{route: [{destination: {host: reviews}}], retries: {attempts: 0}}]"))
    )
    assert not route.route.HasField("retry_policy")


@pytest.mark.parametrize(
    ("redirect", "port"),
    [
        ("port: 80", 0),
        ("port: 8080", 8080),
        ("scheme: https, port: 443", 0),
        ("derivePort: FROM_REQUEST_PORT", 9080),
    ],
)
def test_a_redirect_leaves_out_the_default_port(redirect: str, port: int) -> None:
    (route,) = routes(bookinfo(virtual_service(f"[{{redirect: {{uri: /, {redirect}}}}}]")))
    assert route.redirect.port_redirect == port


def test_unknown_hosts_are_passed_on_or_refused() -> None:
    assert hosts(bookinfo())["allow_any"].routes[0].route.cluster == "PassthroughCluster"
    closed = bookinfo(mesh=MeshConfig(outbound_traffic_policy="REGISTRY_ONLY"))
    assert hosts(closed)["block_all"].routes[0].direct_response.status == 502


def test_no_domain_is_in_two_virtual_hosts() -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec: {hosts: [own.example, web.default], http: [{directResponse: {status: 200}}]}
"""
    world = with_service(bookinfo(*objects(text)), service("web", ServicePort("http", 80, 80)))
    domains = [domain for host in hosts(world).values() for domain in host.domains]
    assert len(domains) == len(set(domains))
    assert {"own.example", "own.example:80", "web.default", "*"} <= set(domains)
