"""The control plane on one page: what is made of what, and in which order it starts and stops.

    watch -> assemble (ingest) -> debounce -> publish (compile, snapshot, stream) -> server -> the proxies

Beside it: the CA on the same port, the webhooks, the spreading of the root certificate, the status of
rules, and the monitoring port.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import ssl
import sys
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import grpc.aio
from aiohttp import web

from mesh.api.request_authentication import JWTRule
from mesh.ca.issue import Lifetimes
from mesh.ca.root import Root, RootError, load_or_create
from mesh.ca.server import CertificateService
from mesh.control import ingest
from mesh.control.assemble import KIND_OF, MESH_CONFIG, Assembler
from mesh.control.auth import SecretStore, TokenReviews
from mesh.control.debounce import Debouncer
from mesh.control.inject import Injection, injection
from mesh.control.jwks import KeyFetcher
from mesh.control.kube import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    VALIDATING_WEBHOOKS,
    Kube,
    KubeError,
    Object,
    Resource,
)
from mesh.control.monitor import Monitor
from mesh.control.publish import Publisher
from mesh.control.server import OPTIONS, DiscoveryServer
from mesh.control.serving import ServingCertificate, server_names
from mesh.control.status import StatusWriter
from mesh.control.trust import WEBHOOKS, Trust
from mesh.control.watch import Changes, Key, Reflector
from mesh.control.webhooks import Webhooks
from mesh.ports import really

log = logging.getLogger(__name__)

OWN_NAMESPACE = (CONFIG_MAPS, SECRETS)
"""Where the mesh's gateways are, so their certificates are there too."""

CLUSTER_WIDE = (
    NAMESPACES,
    SERVICES,
    PODS,
    ENDPOINT_SLICES,
    MUTATING_WEBHOOKS,
    VALIDATING_WEBHOOKS,
    *KIND_OF,
)


@dataclass(frozen=True)
class Settings:
    """Where to listen and how long certificates live. Ports are Istio's."""

    bind: str = "0.0.0.0"
    namespace: str = "mesh-system"
    name: str = "mesh-control"
    xds_port: int = 15012
    plaintext_port: int = 15010
    monitoring_port: int = 15014
    webhook_port: int = 15017
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    serving_life: timedelta = timedelta(hours=24)

    @property
    def plaintext_bind(self) -> str:
        """Plaintext xDS is for this machine only: the pod's own loopback, or the loopback address the pod
        lives on.
        """
        return self.bind if ip_address(self.bind).is_loopback else "127.0.0.1"


class Control:
    """All parts, wired. `run` until cancelled."""

    def __init__(self, kube: Kube, root: Root, settings: Settings) -> None:
        self.kube, self.root, self.settings = kube, root, settings
        self.assembler = Assembler()
        self.injection = Injection()
        self.publisher = Publisher(on_progress=lambda: self.status.news())
        self.debouncer = Debouncer(self._publish)
        self.issuers = KeyFetcher(self._jwt_rules, self._keys_fetched)
        self.trust = Trust(kube, root.certificate_pem)
        self.certificate = ServingCertificate(root, server_names(settings.namespace), settings.serving_life)
        self.authenticate = TokenReviews(kube, lambda: self.assembler.world.mesh.trust_domain)
        self.ca = CertificateService(root, self.authenticate, settings.lifetimes)
        self.webhooks = Webhooks(lambda: self.assembler.world, lambda: self.injection)
        self.status = StatusWriter(
            kube,
            lambda: self.assembler.world,
            lambda: self.publisher.connections,
            lambda: self.assembler.rules,
            lambda: self.assembler.invalid,
        )
        self.reflectors = [
            *(Reflector(kube, resource, self._changed) for resource in CLUSTER_WIDE),
            *(Reflector(kube, resource, self._changed, settings.namespace) for resource in OWN_NAMESPACE),
        ]
        self.monitor = Monitor(self.publisher, self.missing, self._counts)
        self._serving = False

    def missing(self) -> str:
        """What is missing until we are ready, in a sentence; "" when nothing is."""
        unsynced = [one.resource.plural for one in self.reflectors if not one.synced.is_set()]
        if unsynced:
            return f"waiting for the first list of {', '.join(unsynced)}\n"
        if not self.trust.webhooks_ready:
            return "waiting for the CA bundle to be in the webhook configurations\n"
        return "" if self._serving else "waiting for the servers to listen\n"

    def _changed(self, resource: Resource, changes: Changes) -> None:
        """Every change of the cluster comes by here."""
        if resource in WEBHOOKS:
            self.trust.webhooks_changed(resource, changes)
            return
        if resource == NAMESPACES:
            self.trust.namespaces_changed(changes)
        if resource == CONFIG_MAPS:
            self._read_injection(changes)
        meaningful = [self._take(resource, key, obj) for key, obj in changes.items()]
        if any(meaningful):
            self.debouncer.change()
        if resource in KIND_OF:
            self.status.news()
            self.issuers.news()

    def _take(self, resource: Resource, key: Key, obj: Object | None) -> bool:
        """Take one object in. One that we cannot read must not keep the others from being seen."""
        try:
            return self.assembler.apply(resource, {key: obj})
        except Exception:
            log.exception("%s %s/%s cannot be read; it stays as it was", resource.plural, *key)
            return False

    def _read_injection(self, changes: Changes) -> None:
        config = changes.get((self.settings.namespace, MESH_CONFIG))
        try:
            self.injection = (
                injection((config["data"] or {}).get("injection") or "") if config else self.injection
            )
        except (ingest.ConfigError, KeyError) as error:
            log.error("ConfigMap %s: %s; injection stays as it was", MESH_CONFIG, error)

    def _jwt_rules(self) -> Iterable[JWTRule]:
        policies = self.assembler.world.request_authentications
        return (rule for policy in policies for rule in policy.spec.jwt_rules)

    def _keys_fetched(self, keys: Mapping[tuple[str, str], str]) -> None:
        self.assembler.take_keys(keys)
        self.debouncer.change()

    def _publish(self) -> None:
        """Nothing is published before everything has been listed once: half a world would take routes away."""
        if all(one.synced.is_set() for one in self.reflectors):
            self.publisher.update(self.assembler.world)

    def _counts(self) -> dict[str, tuple[str, float]]:
        return {
            "citadel_server_success_cert_issuance_count": ("Certificates issued.", self.ca.issued),
            "citadel_server_csr_rejected_count": ("Certificate requests refused.", self.ca.refused),
            "sidecar_injection_success_total": ("Pods given a sidecar.", self.webhooks.counts["injected"]),
            "sidecar_injection_skip_total": ("Pods left without a sidecar.", self.webhooks.counts["left"]),
            "galley_validation_passed": ("Rules accepted.", self.webhooks.counts["accepted"]),
            "galley_validation_failed": ("Rules refused.", self.webhooks.counts["refused"]),
        }

    async def run(self) -> None:
        """Start everything, serve until cancelled, stop in the opposite order. Raises OSError for a taken
        port.
        """
        async with AsyncExitStack() as stack:
            await self._listen(stack)
            self._serving = True
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.publisher.run())
                tasks.create_task(self.trust.run())
                tasks.create_task(self.certificate.run())
                tasks.create_task(self.status.run())
                tasks.create_task(self.issuers.run())
                tasks.create_task(self._first_publication())
                for reflector in self.reflectors:
                    tasks.create_task(reflector.run())

    async def _first_publication(self) -> None:
        for reflector in self.reflectors:
            await reflector.synced.wait()
        self._publish()

    async def _listen(self, stack: AsyncExitStack) -> None:
        """Open every port; `stack` closes them."""
        settings, name = self.settings, self.settings.name
        secure = [DiscoveryServer(self.publisher, self.authenticate, name).handler(), self.ca.handler()]
        credentials = self.certificate.grpc_credentials()
        await _serve_grpc(stack, secure, settings.bind, settings.xds_port, credentials)
        if settings.plaintext_port:
            open_to_this_machine = [DiscoveryServer(self.publisher, None, name).handler()]
            await _serve_grpc(stack, open_to_this_machine, settings.plaintext_bind, settings.plaintext_port)
        await _serve_http(stack, self.monitor.application(), settings.bind, settings.monitoring_port)
        context = self.certificate.context
        await _serve_http(stack, self.webhooks.application(), settings.bind, settings.webhook_port, context)
        log.info("serving xDS and the CA on %s:%d", settings.bind, settings.xds_port)


async def _serve_grpc(
    stack: AsyncExitStack,
    handlers: Sequence[grpc.GenericRpcHandler[Any, Any]],
    address: str,
    port: int,
    credentials: grpc.ServerCredentials | None = None,
) -> None:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(tuple(handlers))
    place = f"{address}:{port}"
    try:
        bound = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {place}: {error}") from error
    if bound != port:
        raise OSError(f"cannot listen on {place}; is another control plane running there?")
    await server.start()
    stack.push_async_callback(server.stop, 0.2)


async def _serve_http(
    stack: AsyncExitStack,
    app: web.Application,
    address: str,
    port: int,
    context: ssl.SSLContext | None = None,
) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, address, port, ssl_context=context).start()


async def serve(settings: Settings) -> None:
    """Connect to the cluster, load the root (or make it), run. Raises KubeError, RootError, OSError."""
    kube = await Kube.connect()
    try:
        config = await kube.get(CONFIG_MAPS, MESH_CONFIG, settings.namespace)
        mesh = ingest.mesh_config(((config or {}).get("data") or {}).get(MESH_CONFIG) or "")
        root = await load_or_create(SecretStore(kube), settings.namespace, mesh.trust_domain)
        await Control(kube, root, settings).run()
    finally:
        await kube.close()


def parse(argv: Sequence[str] | None, environ: Mapping[str, str]) -> tuple[Settings, str]:
    """Command line and environment to settings and log level."""
    parser = argparse.ArgumentParser(prog="python -m mesh.control", description="The mesh's control plane.")
    parser.add_argument(
        "--bind", default=environ.get("LAB_BIND_ADDRESS", "0.0.0.0"), help="address to listen on"
    )
    parser.add_argument("--xds-port", type=int, default=15012, help="xDS and CA, TLS (default: %(default)s)")
    parser.add_argument(
        "--plaintext-port",
        type=int,
        default=15010,
        help="xDS for this machine; 0: none (default: %(default)s)",
    )
    parser.add_argument("--monitoring-port", type=int, default=15014, help="default: %(default)s")
    parser.add_argument("--webhook-port", type=int, default=15017, help="default: %(default)s")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    chosen = parser.parse_args(argv)
    try:
        default = ingest.seconds(environ.get("DEFAULT_WORKLOAD_CERT_TTL", "24h"))
        longest = ingest.seconds(environ.get("MAX_WORKLOAD_CERT_TTL", "2160h"))
    except ingest.ConfigError as error:
        parser.error(f"certificate lifetime: {error}")
    settings = Settings(
        bind=chosen.bind,
        namespace=environ.get("POD_NAMESPACE", "mesh-system"),
        name=environ.get("POD_NAME", "mesh-control"),
        xds_port=really(chosen.xds_port, environ),
        plaintext_port=0 if environ.get("LAB_PORTS") else chosen.plaintext_port,  # one machine, many clusters
        monitoring_port=chosen.monitoring_port,
        webhook_port=chosen.webhook_port,
        lifetimes=Lifetimes(timedelta(seconds=default), timedelta(seconds=longest)),
    )
    return settings, chosen.log_level


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status."""
    settings, level = parse(argv, os.environ)
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    failed = False
    try:
        asyncio.run(_until_told_to_stop(serve(settings)))
    except* (KubeError, RootError, ingest.ConfigError, OSError) as errors:
        failed = True
        print(f"mesh.control: {errors.exceptions[0]}", file=sys.stderr)
    return 1 if failed else 0


async def _until_told_to_stop(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
