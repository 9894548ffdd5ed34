"""SDS for gateways: certificates from Kubernetes Secrets of the proxy's own namespace, by Istio's names.

`kubernetes://NAME` is the server's certificate with its key, `kubernetes://NAME-cacert` the authorities whose client
certificates it takes: from a Secret of that name, else the `ca.crt` beside the certificate. A workload's own key is no
business of ours: it never leaves its pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from mesh.control.compile import gateways
from mesh.control.compile.tls import CA_SUFFIX, KUBERNETES
from mesh.control.compile.view import View
from mesh.control.world import Credential, Proxy, World

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
_NONE: Mapping[str, Any] = MappingProxyType({})


def secrets_for(world: World, proxy: Proxy, view: View) -> Mapping[str, Any]:
    """The Secrets that something of this proxy's configuration names, as far as they are there."""
    rules = world.destination_rules
    if not world.secrets or not (proxy.type == "router" or any(rule.spec.client_labels for rule in rules)):
        return _NONE

    def build() -> Mapping[str, Any]:
        names = {*_of_servers(world, proxy), *_of_rules(world, view)}
        found = {name: _secret(world, proxy.namespace, name) for name in sorted(names)}
        return {made.name: made for made in found.values() if made is not None}

    inputs = (proxy, world.gateways, world.services, world.workload_of(proxy), rules, world.secrets)
    return world.memo.get(("secrets", proxy.id), inputs, build)


def _of_servers(world: World, proxy: Proxy) -> Iterable[str]:
    if proxy.type != "router":
        return
    for servers in gateways.servers_by_port(world, proxy).values():
        for server in (bound.server for bound in servers):
            for name in server.tls.credentials if server.tls else ():
                yield name
                yield name + CA_SUFFIX
            if server.tls and server.tls.ca_cert_credential_name:
                yield server.tls.ca_cert_credential_name


def _of_rules(world: World, view: View) -> Iterable[str]:
    """Credentials of DestinationRules: for gateways all, for a sidecar those of rules that select it."""
    for rule in world.destination_rules:
        wanted = rule.spec.client_labels
        if view.type != "router" and not (wanted and rule.namespace == view.namespace):
            continue
        if any(view.labels.get(key) != value for key, value in wanted.items()):
            continue
        for level in (level for policy in rule.spec.policies for level in policy.levels):
            if level.tls and level.tls.credential_name:
                yield level.tls.credential_name
                yield level.tls.credential_name + CA_SUFFIX


def _secret(world: World, namespace: str, name: str) -> Any | None:
    plain = name.removeprefix(f"{namespace}/")
    own = world.secrets.get((namespace, plain))
    beside = world.secrets.get((namespace, plain.removesuffix(CA_SUFFIX)))
    if own and own.ca and not (own.certificate and own.key):
        return _authorities(world, name, own)
    if plain.endswith(CA_SUFFIX):
        return _authorities(world, name, beside) if beside and beside.ca else None
    return _certificate(world, name, own) if own and own.certificate and own.key else None


def _certificate(world: World, name: str, credential: Credential) -> Any:
    def build() -> Any:
        made = secret_pb2.Secret(name=KUBERNETES + name)
        made.tls_certificate.certificate_chain.inline_bytes = credential.certificate
        made.tls_certificate.private_key.inline_bytes = credential.key
        return made

    return world.memo.get(("certificate", name), (credential,), build)


def _authorities(world: World, name: str, credential: Credential) -> Any:
    def build() -> Any:
        made = secret_pb2.Secret(name=KUBERNETES + name)
        made.validation_context.trusted_ca.inline_bytes = credential.ca
        if credential.crl:
            made.validation_context.crl.inline_bytes = credential.crl
        return made

    return world.memo.get(("authorities", name), (credential,), build)
