"""The real Envoy accepts every resource the control plane compiles: no NACK, every listener listening."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from envoy.config.listener.v3.listener_pb2 import Listener
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mesh.api import parse
from mesh.control.compile import LISTENER, Resources, compile
from mesh.control.world import MeshConfig, Proxy, ServicePort, World
from tests.oracle.ads import Ads, RunningEnvoy, running_envoy
from tests.oracle.certificates import issue
from tests.strategies import virtual_services
from tests.worlds import SAMPLES, bookinfo, by_kind, gateway, objects, sample, service, sidecar

#: Loopback addresses of this run alone.
_ADDRESSES = f"127.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"

EVERYTHING = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews, "shop.example", "*.wild.example"]
  http:
    - name: first
      match:
        - name: all-conditions
          uri: {regex: "/reviews/[0-9]+"}
          scheme: {exact: http}
          method: {regex: "GET|HEAD"}
          authority: {prefix: reviews}
          headers: {end-user: {exact: jason}, cookie: {regex: ".*user=x.*"}, present: {}, star: {regex: "*"}}
          withoutHeaders: {x-not: {exact: "1"}, x-absent: {}}
          queryParams: {a: {exact: "1"}, b: {prefix: x}, c: {regex: "[0-9]"}, d: {}}
          ignoreUriCase: false
        - {uri: {prefix: /lower}, ignoreUriCase: true, sourceLabels: {app: productpage}, sourceNamespace: default}
        - {uri: {exact: /elsewhere}, port: 9080}
      route:
        - destination: {host: reviews, subset: v1}
          weight: 70
          headers: {request: {set: {x-version: v1, host: other.example}}, response: {add: {x-from: v1}}}
        - {destination: {host: reviews, subset: v2, port: {number: 9080}}, weight: 30}
        - {destination: {host: reviews, subset: v3}, weight: 0}
      timeout: 2.5s
      retries: {attempts: 3, perTryTimeout: 500ms, retryOn: "gateway-error,503,reset", backoff: 25ms}
      rewrite: {uri: /, authority: reviews.example}
      fault:
        delay: {fixedDelay: 100ms, percentage: {value: 0.1}}
        abort: {grpcStatus: UNAVAILABLE, percentage: {value: 50}}
      mirror: {host: reviews, subset: v3}
      corsPolicy:
        {allowOrigins: [{exact: "http://a.example"}, {regex: ".*"}], allowMethods: [GET, POST], allowHeaders: [x-a],
         exposeHeaders: [x-b], maxAge: 24h, allowCredentials: true}
      mirrorPercentage: {value: 12.5}
      headers:
        request: {set: {a: b}, add: {c: d}, remove: [e]}
        response: {set: {f: g}, add: {h: i}, remove: [j]}
    - match: [{uri: {prefix: /old}}]
      redirect: {uri: /new, authority: new.example, scheme: https, redirectCode: 308, derivePort: FROM_REQUEST_PORT}
    - match: [{uri: {prefix: /prefix/}}]
      redirect: {prefixRewrite: /p/, port: 8443}
    - match: [{uri: {prefix: /direct}}]
      directResponse: {status: 418, body: {string: "short and stout"}}
    - match: [{uri: {prefix: /regex}}]
      rewrite: {uriRegexRewrite: {match: "^/regex/(.*)$", rewrite: "/\\\\1"}}
      route: [{destination: {host: missing, subset: nowhere}}]
      retries: {attempts: 0}
    - route: [{destination: {host: ratings}}]
      mirrors: [{destination: {host: details}, percentage: {value: 1}}, {destination: {host: productpage}}]
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool:
      tcp: {maxConnections: 10, connectTimeout: 250ms}
      http: {http1MaxPendingRequests: 5, http2MaxRequests: 20, maxRequestsPerConnection: 3, maxRetries: 2, idleTimeout:
      30s}
    outlierDetection:
      {consecutive5xxErrors: 3, consecutiveGatewayErrors: 2, interval: 1s, baseEjectionTime: 3s, maxEjectionPercent: 50,
       minHealthPercent: 10}
    tls: {mode: ISTIO_MUTUAL}
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: RANDOM}, tls: {mode: DISABLE}}}
    - name: v3
      labels: {version: v3}
      trafficPolicy:
        portLevelSettings: [{port: {number: 9080}, tls: {mode: SIMPLE, sni: reviews.example, subjectAltNames: [a, b]}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: telemetry, namespace: mesh-system}
spec:
  host: mesh-telemetry
  trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: mesh-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: productpage}
spec:
  selector: {matchLabels: {app: productpage}}
  portLevelMtls: {"9080": {mode: PERMISSIVE}, "9081": {mode: DISABLE}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: every-form}
spec:
  action: ALLOW
  rules:
    - from:
        - source: {principals: ["cluster.local/ns/default/sa/bookinfo-*", "*/sa/x", "*"], notPrincipals: [a/b]}
        - source: {namespaces: [default, "vis*", "*"], notNamespaces: [evil]}
        - source: {ipBlocks: [10.0.0.0/8, "::1", "fe80::/10"], notIpBlocks: [10.1.2.3]}
      to:
        - operation: {hosts: ["reviews*", "*.local", "*", x], notHosts: [y], methods: [GET, "P*"], notMethods: [PUT]}
        - operation: {paths: ["/a*", "*/b", "*", /c], notPaths: [/d], ports: ["9080"], notPorts: ["1"]}
      when:
        - {key: "request.headers[x-group]", values: [admin, "dev*"], notValues: ["*-out"]}
        - {key: source.namespace, values: [default]}
        - {key: source.principal, notValues: [c]}
        - {key: source.ip, values: [10.0.0.0/8]}
        - {key: destination.port, values: ["9080"]}
    - {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny}
spec: {action: DENY, rules: [{from: [{source: {notNamespaces: [default]}}], to: [{operation: {methods: [DELETE]}}]}]}
---
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: audit, namespace: mesh-system}
spec: {action: AUDIT, selector: {matchLabels: {app: productpage}}, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nothing}
spec: {}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: mesh-system}
spec:
  selector: {istio: ingressgateway}
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["default/shop.example", "./*.mesh.example"]}
    - {port: {number: 8081, name: other, protocol: HTTP2}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: ["*.example", "shop.example"]
  gateways: [mesh-system/edge, mesh]
  http:
    - match: [{gateways: [mesh-system/edge], uri: {prefix: /shop}}]
      route: [{destination: {host: productpage}}]
    - route: [{destination: {host: reviews, subset: v1}}]
"""


def worlds() -> dict[str, World]:
    """Name -> world: Bookinfo bare, with each of Istio's manifests, and with every field we honour at once."""
    rules = sample("destination-rule-all")
    found = {"bare": bookinfo(first_octets=_ADDRESSES)}
    for name in SAMPLES:
        own = sample(name)
        named = {(each.kind, each.name) for each in own}
        rest = (each for each in rules if (each.kind, each.name) not in named)
        found[name] = bookinfo(*own, *rest, first_octets=_ADDRESSES)
    found["everything"] = bookinfo(*objects(EVERYTHING), first_octets=_ADDRESSES)
    database = service(
        "db", ServicePort("tcp", 27017, 27017, "TCP"), cluster_ip="10.9.0.1", selector={"app": "productpage"}
    )
    found["tcp"] = found["everything"].evolve(
        services={**found["everything"].services, database.key: database}
    )
    closed = MeshConfig(
        outbound_traffic_policy="REGISTRY_ONLY", access_log_service=None, enable_auto_mtls=False
    )
    found["closed"] = bookinfo(*objects(EVERYTHING), mesh=closed, first_octets=_ADDRESSES)
    return found


def at_own_address(resources: Resources, address: str) -> Resources:
    """The same, but sockets for all addresses (0.0.0.0) are only at `address`, so that tests do not meet."""
    moved = {}
    for name, listener in resources.by_type[LISTENER].items():
        copy = Listener()
        copy.CopyFrom(listener)
        if not copy.HasField("bind_to_port"):
            copy.address.socket_address.address = address
        moved[name] = copy
    return Resources({**resources.by_type, LISTENER: moved})


async def _accepts_all(proxy: Proxy) -> None:
    ads = Ads(*issue(f"spiffe://cluster.local/ns/{proxy.namespace}/sa/{proxy.service_account}"))
    async with running_envoy(proxy, ads) as envoy:
        for name, world in worlds().items():
            resources = compile(world, proxy)
            if proxy.interception == "REDIRECT":
                resources = at_own_address(resources, proxy.ip)
            await ads.serve(resources)
            try:
                await ads.accepted()
            except (AssertionError, TimeoutError) as error:
                pytest.fail(f"{proxy.type}, world {name}: {error!r}\n{envoy.log.read_text()[-4000:]}")
            assert await listening(envoy) == set(resources.by_type[LISTENER]), name


async def listening(envoy: RunningEnvoy) -> set[str]:
    """Names of the listeners Envoy has taken into service; fails on any it holds back with an error."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{envoy.admin}/config_dump?resource=dynamic_listeners") as response:
            dump = json.loads(await response.text())
    found = dump.get("configs", [])
    assert not any("error_state" in each for each in found), found
    return {each["name"] for each in found if "active_state" in each}


@pytest.fixture
def sidecar_proxy() -> Proxy:
    return sidecar(world=bookinfo(first_octets=_ADDRESSES))


async def test_envoy_accepts_what_a_sidecar_gets(sidecar_proxy: Proxy) -> None:
    await _accepts_all(sidecar_proxy)


async def test_envoy_accepts_what_a_sidecar_behind_iptables_gets(sidecar_proxy: Proxy) -> None:
    await _accepts_all(replace(sidecar_proxy, interception="REDIRECT"))


async def test_envoy_accepts_what_a_gateway_gets() -> None:
    await _accepts_all(gateway(bookinfo(first_octets=_ADDRESSES)))


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=(Phase.generate,)
)
@given(st.lists(virtual_services(), min_size=12, max_size=20))
def test_envoy_accepts_whatever_we_accept(documents: list[dict[str, Any]]) -> None:
    """What passes our validation is never refused by the data plane: each document is one more push."""

    async def push_all() -> None:
        world = bookinfo(*sample("destination-rule-all"), first_octets=_ADDRESSES)
        proxy = sidecar(world=world)
        ads = Ads(*issue("spiffe://cluster.local/ns/default/sa/x"))
        async with running_envoy(proxy, ads):
            for document in documents:
                await ads.serve(compile(world.evolve(config=by_kind((parse(document),))), proxy))
                try:
                    await ads.accepted()
                except AssertionError as error:
                    raise AssertionError(f"{error}\n{json.dumps(document)}") from None

    asyncio.run(push_all())
