"""The app's own probes, asked through the sidecar: `/app-health/CONTAINER/(readyz|livez|startupz)`.

With STRICT mutual TLS the kubelet cannot reach the app. The injector points its probes here and keeps the
original ones in `ISTIO_KUBE_APP_PROBERS`, as Istio does
(https://istio.io/latest/docs/ops/configuration/mesh/app-health-check/).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

DEFAULT_TIMEOUT = 1.0
"""Seconds, Kubernetes' `timeoutSeconds` when it is not said."""
_READ = 4096


class Prober:
    """Knows the probes of this pod."""

    def __init__(
        self, probes: Mapping[str, Any], app_address: str, source: tuple[str, int] | None = None
    ) -> None:
        """`source` is the own address to ask from (None: the system's choice)."""
        self._probes = probes
        self._app = app_address
        self._source = source

    async def probe(self, path: str) -> tuple[int, str]:
        """Ask the app. Returns the status for the kubelet and a sentence."""
        probe = self._probes.get(path)
        if not isinstance(probe, Mapping):
            return 404, f"{path}: no such probe\n"
        timeout = float(probe.get("timeoutSeconds") or DEFAULT_TIMEOUT)
        try:
            async with asyncio.timeout(timeout):
                if "tcpSocket" in probe:
                    return await self._tcp(int(probe["tcpSocket"]["port"]))
                return await self._http(probe.get("httpGet") or {})
        except TimeoutError:
            return 504, f"{path}: no answer within {timeout:g} s\n"
        except (OSError, ValueError, KeyError, EOFError) as error:
            return 503, f"{path}: {error}\n"

    async def _tcp(self, port: int) -> tuple[int, str]:
        _, writer = await asyncio.open_connection(self._app, port, local_addr=self._source)
        writer.close()
        return 200, "OK\n"

    async def _http(self, probe: Mapping[str, Any]) -> tuple[int, str]:
        """GET as the kubelet would: its status is our status."""
        port = int(probe["port"])
        headers = {"host": f"{self._app}:{port}", "user-agent": "kube-probe/1.0", "connection": "close"}
        for header in probe.get("httpHeaders") or ():
            headers[str(header["name"]).lower()] = str(header["value"])
        lines = [
            f"GET {probe.get('path') or '/'} HTTP/1.1",
            *(f"{k}: {v}" for k, v in headers.items()),
            "",
            "",
        ]
        reader, writer = await asyncio.open_connection(self._app, port, local_addr=self._source)
        try:
            writer.write("\r\n".join(lines).encode())
            status = (await reader.readline()).split()
        finally:
            writer.close()
        if len(status) < 2:
            raise EOFError("the app closed without an answer")
        code = int(status[1])
        return (200, "OK\n") if 200 <= code < 400 else (code, f"the app answered {code}\n")
