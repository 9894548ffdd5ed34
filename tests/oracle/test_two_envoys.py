"""Compiled configuration means what it should: a request goes through two real Envoys, as client's and server's
sidecar.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

from mesh.control.compile import compile
from mesh.control.world import ExtAuthz, MeshConfig, Proxy, World
from tests.oracle.ads import Ads, running_envoy
from tests.oracle.certificates import issue
from tests.worlds import bookinfo, objects, sample, sidecar

#: Loopback addresses of this run alone.
_ADDRESSES = f"127.{100 + os.getpid() % 50}.{os.getpid() // 50 % 250}"


@dataclass
class Pair:
    """The sidecars of productpage and reviews-v1, both real Envoys, and the app behind the second."""

    client: Proxy
    server: Proxy
    ads: dict[str, Ads]
    session: aiohttp.ClientSession

    async def apply(self, *config: Any, yaml: str = "", settings: MeshConfig | None = None) -> World:
        """Serve Bookinfo with these objects to both; returns when both have taken it."""
        world = only_v1_runs(bookinfo(*config, *objects(yaml), mesh=settings, first_octets=_ADDRESSES))
        for proxy in (self.client, self.server):
            await self.ads[proxy.id].serve(compile(world, proxy))
            await self.ads[proxy.id].accepted()
        return world

    async def get(self, url: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """(status, headers, body) of a request the app of productpage makes with http_proxy set."""
        proxy = f"http://{self.client.app_address}:15001"
        async with self.session.get(url, proxy=proxy, headers=headers) as response:
            return response.status, dict(response.headers), await response.text()

    async def status(self, url: str, **headers: str) -> int:
        return (await self.get(url, **headers))[0]


def only_v1_runs(world: World) -> World:
    key = ("default", "reviews")
    return world.evolve(endpoints={**world.endpoints, key: world.endpoints[key][:1]})


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {"path": request.path, "headers": {k.lower(): v for k, v in request.headers.items()}}
    )


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    world = bookinfo(first_octets=_ADDRESSES)
    client, server = sidecar("productpage-v1", world), sidecar("reviews-v1", world)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, server.app_address, 9080).start()
    ads = {
        proxy.id: Ads(*issue(f"spiffe://cluster.local/ns/default/sa/{proxy.service_account}"))
        for proxy in (client, server)
    }
    async with contextlib.AsyncExitStack() as stack:
        for proxy in (client, server):
            await stack.enter_async_context(running_envoy(proxy, ads[proxy.id]))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Pair(client, server, ads, session)
    await runner.cleanup()


REVIEWS = "http://reviews:9080/reviews/0"
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
"""


def policy(action: str, rules: str) -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p}}
spec: {{selector: {{matchLabels: {{app: reviews}}}}, action: {action}, rules: {rules}}}
"""


async def test_what_objects_mean_to_real_envoys() -> None:
    """One test, since starting two Envoys is what takes the time; each step is one object and its effect."""
    async with pair() as mesh:
        await mesh.apply()
        status, _, body = await mesh.get(REVIEWS)
        assert status == 200, body
        assert "URI=spiffe://cluster.local/ns/default/sa/bookinfo-productpage" in body
        for name in (
            "reviews.default:9080",
            "reviews.default.svc:9080",
            "reviews.default.svc.cluster.local:9080",
        ):
            assert await mesh.status(f"http://{name}/") == 200

        direct = f"http://{mesh.server.ip}:9080/"
        assert await mesh.status(direct) == 200, "an IP address outside of services is passed on"
        async with mesh.session.get(direct) as plain:
            assert plain.status == 200, "PERMISSIVE takes plaintext"
        assert await mesh.status("http://nowhere.example/") == 503

        await mesh.apply(yaml=STRICT)
        assert await mesh.status(REVIEWS) == 200
        async with aiohttp.ClientSession() as stranger:
            with pytest.raises(aiohttp.ClientError):
                await stranger.get(direct)

        await _routing(mesh)
        await _access(mesh)
        await _outside(mesh)
        await _tokens(mesh)
        await _custom(mesh)


OUTSIDE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [outside.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{address: ADDRESS, ports: {http: 9080}, serviceAccount: bookinfo-reviews}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: by-name}
spec:
  hosts: [named.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  endpoints: [{address: ADDRESS, ports: {http: 9080}}]
"""
NARROW = """
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{hosts: ["./outside.example"]}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
"""


async def _outside(mesh: Pair) -> None:
    """Services that Kubernetes does not know of, and a Sidecar object that hides all others."""
    entries = OUTSIDE.replace("ADDRESS", mesh.server.ip)
    await mesh.apply(yaml=entries)
    status, _, body = await mesh.get("http://outside.example/x")
    assert status == 200, body
    assert "URI=spiffe://cluster.local/ns/default/sa/bookinfo-productpage" in body, (
        "mutual TLS inside the mesh"
    )
    status, _, body = await mesh.get("http://named.example/x")
    assert status == 200, body
    assert "x-forwarded-client-cert" not in body, "and none to the outside"
    await mesh.apply(yaml=entries + NARROW)
    assert await mesh.status("http://outside.example/x") == 200
    assert await mesh.status(REVIEWS) == 502
    assert await mesh.status("http://named.example/x") == 502


async def _routing(mesh: Pair) -> None:
    rules = sample("destination-rule-all")
    await mesh.apply(*sample("virtual-service-reviews-v3"))
    assert await mesh.status(REVIEWS) == 503, "a subset nobody defines (NC)"
    await mesh.apply(*rules, *sample("virtual-service-reviews-v3"))
    assert await mesh.status(REVIEWS) == 503, "a subset without endpoints (UH)"
    await mesh.apply(*rules, *sample("virtual-service-reviews-jason-v2-v3"))
    assert await mesh.status(REVIEWS) == 503
    await mesh.apply(
        *rules,
        yaml="""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
    - match: [{headers: {end-user: {exact: jason}}}]
      fault: {abort: {httpStatus: 555, percentage: {value: 100}}}
      route: [{destination: {host: reviews, subset: v1}}]
    - match: [{uri: {prefix: /old}}]
      redirect: {uri: /new}
    - match: [{uri: {regex: "/[0-9]+"}, withoutHeaders: {x-off: {}}}]
      directResponse: {status: 418, body: {string: number}}
    - match: [{uri: {exact: /a}, queryParams: {v: {exact: "1"}}}]
      rewrite: {uri: /rewritten, authority: other.example}
      headers: {request: {set: {x-set: "50%%"}, remove: [x-gone]}, response: {add: {x-from: v1}}}
      route: [{destination: {host: reviews, subset: v1}}]
    - route: [{destination: {host: reviews, subset: v1}, weight: 1}, {destination: {host: reviews, subset: v2}, weight:
    0}]
""",
    )
    assert await mesh.status(REVIEWS, **{"end-user": "jason"}) == 555
    assert await mesh.status(REVIEWS) == 200
    assert await mesh.status("http://reviews:9080/42") == 418
    assert await mesh.status("http://reviews:9080/42", **{"x-off": "1"}) == 200
    status, headers, body = await mesh.get("http://reviews:9080/a?v=1", **{"x-gone": "1"})
    assert status == 200
    assert headers["x-from"] == "v1"
    assert '"x-set": "50%"' in body
    assert '"host": "other.example"' in body
    assert '"path": "/rewritten"' in body
    assert "x-gone" not in body


async def _access(mesh: Pair) -> None:
    caller = "cluster.local/ns/default/sa/bookinfo-productpage"
    cases = [
        ("ALLOW", "[]", 403),
        ("ALLOW", "[{}]", 200),
        ("DENY", "[{}]", 403),
        ("ALLOW", f"[{{from: [{{source: {{principals: [{caller}]}}}}]}}]", 200),
        ("ALLOW", "[{from: [{source: {principals: ['*/bookinfo-productpage']}}]}]", 200),
        ("ALLOW", "[{from: [{source: {principals: ['cluster.local/ns/default/*']}}]}]", 200),
        ("ALLOW", "[{from: [{source: {principals: [cluster.local/ns/default/sa/other]}}]}]", 403),
        ("ALLOW", "[{from: [{source: {namespaces: [default]}}]}]", 200),
        ("ALLOW", "[{from: [{source: {namespaces: ['def*']}}]}]", 200),
        ("DENY", "[{from: [{source: {notNamespaces: [default]}}]}]", 200),
        ("ALLOW", "[{to: [{operation: {methods: [GET], paths: ['/reviews/*'], ports: ['9080']}}]}]", 200),
        ("ALLOW", "[{to: [{operation: {methods: [POST]}}]}]", 403),
        ("ALLOW", "[{to: [{operation: {hosts: ['reviews*']}}]}]", 200),
        ("DENY", "[{to: [{operation: {notPaths: [/reviews/0]}}]}]", 200),
        ("ALLOW", "[{when: [{key: 'request.headers[x-group]', values: [admin]}]}]", 403),
        ("AUDIT", "[{}]", 200),
    ]
    for action, rules, expected in cases:
        await mesh.apply(yaml=policy(action, rules))
        assert await settled(mesh, expected) == expected, (action, rules)
    await mesh.apply(yaml=policy("ALLOW", "[{when: [{key: 'request.headers[x-group]', values: [admin]}]}]"))
    assert await mesh.status(REVIEWS, **{"x-group": "admin"}) == 200


async def settled(mesh: Pair, expected: int, **headers: str) -> int:
    """A listener acknowledged takes its place a moment later; ask until it answers as expected, for two seconds."""
    status = 0
    for _ in range(100):
        status = await mesh.status(REVIEWS, **headers)
        if status == expected:
            break
        await asyncio.sleep(0.02)
    return status


KEY = RSAKey.generate_key(2048)


def token(**claims: Any) -> str:
    """A token of our issuer, as a bearer header has it."""
    return "Bearer " + jwt.encode({"alg": "RS256"}, {"iss": "https://issuer.example", **claims}, KEY)


def tokens() -> str:
    keys = json.dumps({"keys": [KEY.as_dict(private=False)]})
    return f"""
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec:
  selector: {{matchLabels: {{app: reviews}}}}
  jwtRules:
    - {{issuer: "https://issuer.example", jwks: '{keys}', outputClaimToHeaders: [{{header: x-user, claim: sub}}],
       forwardOriginalToken: true}}
    - {{issuer: "https://away.example", jwksUri: "https://away.example/keys"}}
"""


async def _tokens(mesh: Pair) -> None:
    """End-user tokens: a bad one is refused, none is let through, and policies look at what a good one says."""
    jason = token(sub="jason", groups=["dev", "admin"], org={"unit": "shop"}, scope="read write")
    await mesh.apply(yaml=tokens())
    assert await settled(mesh, 401, authorization="Bearer x.y.z") == 401
    assert await mesh.status(REVIEWS) == 200
    status, _, body = await mesh.get(REVIEWS, authorization=jason)
    assert status == 200, body
    assert '"x-user": "jason"' in body
    forged = RSAKey.generate_key(2048)
    away = "Bearer " + jwt.encode({"alg": "RS256"}, {"iss": "https://away.example"}, forged)
    assert await mesh.status(REVIEWS, authorization=away) == 401, "its keys could not be fetched"
    cases = [
        ("from: [{source: {requestPrincipals: ['*']}}]", 200),
        ("from: [{source: {requestPrincipals: ['https://issuer.example/jason']}}]", 200),
        ("from: [{source: {requestPrincipals: ['https://issuer.example/*']}}]", 200),
        ("from: [{source: {requestPrincipals: ['*/jason']}}]", 200),
        ("from: [{source: {requestPrincipals: ['https://issuer.example/eve']}}]", 403),
        ("when: [{key: 'request.auth.claims[groups]', values: [admin]}]", 200),
        ("when: [{key: 'request.auth.claims[groups]', values: [root]}]", 403),
        ("when: [{key: 'request.auth.claims[org][unit]', values: [shop]}]", 200),
        ("when: [{key: 'request.auth.claims[scope]', values: [write]}]", 200),
        ("when: [{key: request.auth.principal, values: ['*']}]", 200),
        ("to: [{operation: {paths: ['/reviews/{*}']}}]", 200),
        ("to: [{operation: {paths: ['/{*}']}}]", 403),
        ("to: [{operation: {paths: ['/{**}']}}]", 200),
        ("from: [{source: {serviceAccounts: [bookinfo-productpage]}}]", 200),
        ("from: [{source: {serviceAccounts: [other/bookinfo-productpage]}}]", 403),
        ("from: [{source: {trustDomains: [cluster.local]}}]", 200),
        ("from: [{source: {notTrustDomains: [cluster.local]}}]", 403),
    ]
    for rule, expected in cases:
        await mesh.apply(yaml=policy("ALLOW", f"[{{{rule}}}]") + tokens())
        assert await settled(mesh, expected, authorization=jason) == expected, rule
    rehearsed = policy("DENY", "[{}]").replace(
        "{name: p}", '{name: p, annotations: {istio.io/dry-run: "true"}}'
    )
    await mesh.apply(yaml=rehearsed)
    assert await settled(mesh, 200) == 200, "only counted"


async def _custom(mesh: Pair) -> None:
    """Another service decides: it is asked about the requests the policy names, and about no others."""

    async def decide(request: web.Request) -> web.Response:
        user = request.headers.get("x-user", "")
        return web.Response(status=200 if user == "jason" else 403, headers={"x-decided": f"for {user}"})

    judge = web.Application()
    judge.router.add_route("*", "/{path:.*}", decide)
    runner = web.AppRunner(judge)
    await runner.setup()
    await web.TCPSite(runner, mesh.server.app_address, 9191).start()
    ask = policy("CUSTOM", "[{to: [{operation: {paths: ['/reviews/*']}}]}]").replace(
        "action:", "provider: {name: judge}, action:"
    )
    where = f"""
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: judge}}
spec:
  hosts: [judge.internal]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: {mesh.server.app_address}, ports: {{http: 9191}}}}]
"""
    provider = ExtAuthz(
        "judge",
        "judge.internal",
        80,
        http=True,
        timeout=2.0,
        request_headers=("x-user",),
        to_upstream=("x-decided",),
    )
    await mesh.apply(yaml=ask + where, settings=MeshConfig(ext_authz=(provider,)))
    assert await settled(mesh, 403) == 403
    status, _, body = await mesh.get(REVIEWS, **{"x-user": "jason"})
    assert status == 200, body
    assert '"x-decided": "for jason"' in body
    assert await mesh.status("http://reviews:9080/other") == 200, "nobody is asked"
    await mesh.apply(yaml=ask + where)
    assert await settled(mesh, 403, **{"x-user": "jason"}) == 403, "a provider nobody knows: refused"
    await runner.cleanup()
