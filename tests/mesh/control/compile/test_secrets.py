"""Secrets go to the gateways that name them, and to nobody else."""

from __future__ import annotations

from dataclasses import replace

from mesh.control.compile import compile
from mesh.control.compile.secrets import SECRET
from mesh.control.world import Credential, Proxy, World
from tests.worlds import bookinfo, gateway, objects, sidecar

OBJECTS = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: ["*"]
      tls: {mode: MUTUAL, credentialName: own}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
  host: reviews
  workloadSelector: {matchLabels: {app: productpage}}
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: client}}
"""
PAIR = Credential(certificate=b"c", key=b"k", ca=b"a")


def world(namespace: str = "mesh-system") -> World:
    found = {(namespace, name): PAIR for name in ("own", "unused")}
    return bookinfo(*objects(OBJECTS)).evolve(secrets={**found, ("default", "client"): replace(PAIR, ca=b"")})


def names(world: World, proxy: Proxy) -> set[str]:
    return set(compile(world, proxy).by_type[SECRET])


def test_a_gateway_gets_what_its_servers_name() -> None:
    assert names(world(), gateway()) == {"kubernetes://own", "kubernetes://own-cacert"}
    assert names(world("elsewhere"), gateway()) == set(), "only of its own namespace"


def test_authorities_may_stand_in_a_secret_of_their_own() -> None:
    apart = {
        ("mesh-system", "own"): replace(PAIR, ca=b""),
        ("mesh-system", "own-cacert"): Credential(ca=b"other"),
    }
    found = compile(world().evolve(secrets=apart), gateway()).by_type[SECRET]
    trusted = found["kubernetes://own-cacert"].validation_context.trusted_ca  # type: ignore[attr-defined]
    assert trusted.inline_bytes == b"other"


def test_a_sidecar_gets_a_secret_only_where_a_rule_selects_it() -> None:
    assert names(world(), sidecar()) == {"kubernetes://client"}
    assert names(world(), sidecar("ratings-v1")) == set()


def test_an_unchanged_secret_stays_the_same_message() -> None:
    first = world()
    later = first.evolve(secrets={**first.secrets, ("mesh-system", "unused"): replace(PAIR, ca=b"new")})
    one, other = (compile(each, gateway()).by_type[SECRET]["kubernetes://own"] for each in (first, later))
    assert one is other
