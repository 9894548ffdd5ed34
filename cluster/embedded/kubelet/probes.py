"""Probes: asking a container whether it has started, is ready, is alive.

The first question comes at once (after initialDelaySeconds) and then every periodSeconds; a container that is
not ready yet is asked again sooner, so that a start is seen when it happens and not up to a period later.
(Kubernetes "Configure Liveness, Readiness and Startup Probes"; the kubelet jitters instead.)
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from cluster.embedded.kube import Object
from cluster.embedded.kubelet.runtime import Runtime, StartError

EAGER_PERIOD = 0.1
"""Seconds between questions to a container that has not been ready yet, for the first EAGER_SECONDS."""
EAGER_SECONDS = 10.0


@dataclass(frozen=True)
class Verdict:
    """A probe's outcome and, for a failure, what to tell people."""

    ok: bool
    message: str = ""


@dataclass(frozen=True)
class Target:
    """What a probe is sent to: the container's address and port, and how to run a command in it."""

    address: str
    port: int
    runtime: Runtime
    env: dict[str, str]
    cwd: Path


@dataclass
class Threshold:
    """Turns single verdicts into a state, unknown (None) at first: so many in a row change it."""

    successes: int
    failures: int
    state: bool | None = None
    _run: int = 0
    _last: bool | None = None

    def see(self, ok: bool) -> bool | None:
        """The state after one more verdict."""
        self._run = self._run + 1 if ok is self._last else 1
        self._last = ok
        if self._run >= (self.successes if ok else self.failures):
            self.state = ok
        return self.state


def threshold_of(probe: Object) -> Threshold:
    """The probe's successThreshold and failureThreshold."""
    return Threshold(probe.get("successThreshold") or 1, probe.get("failureThreshold") or 3)


class Prober:
    """Asks one probe of one running container until cancelled."""

    def __init__(self, name: str, probe: Object, target: Target, session: aiohttp.ClientSession) -> None:
        self.name = name
        self._probe = probe
        self._target = target
        self._session = session

    async def run(self, changed: Callable[[bool], Awaitable[None]], failed: Callable[[str], None]) -> None:
        """Call `changed` whenever the probe's state changes, and `failed` at each failure that counts.

        A failed question counts once a period, as in Kubernetes, however eagerly the others are asked.
        """
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._probe.get("initialDelaySeconds") or 0)
        threshold, period = threshold_of(self._probe), self._probe.get("periodSeconds") or 10
        begun = loop.time()
        patient = self.name == "Liveness"
        next_counted = begun if patient else begun + min(period, 1)
        while True:
            asked, before = loop.time(), threshold.state
            verdict = await self.ask()
            if verdict.ok or asked >= next_counted:
                threshold.see(verdict.ok)
                next_counted = asked + period
                if not verdict.ok:
                    failed(f"{self.name} probe failed: {verdict.message}")
            if threshold.state is not None and threshold.state is not before:
                await changed(threshold.state)
            eager = not patient and not threshold.state and loop.time() - begun < EAGER_SECONDS
            pause = min(EAGER_PERIOD, period) if eager else period
            await asyncio.sleep(max(0.0, asked + pause - loop.time()))

    async def ask(self) -> Verdict:
        """One question, within timeoutSeconds."""
        timeout = self._probe.get("timeoutSeconds") or 1
        try:
            async with asyncio.timeout(timeout):
                if action := self._probe.get("httpGet"):
                    return await self._http(action)
                if action := self._probe.get("tcpSocket"):
                    return await self._tcp(action)
                if action := self._probe.get("exec"):
                    return await self._exec(action)
        except TimeoutError:
            return Verdict(False, f"timeout: no answer within {timeout}s")
        except (OSError, aiohttp.ClientError) as error:
            return Verdict(False, str(error))
        return Verdict(
            False, "grpc probes are not supported by the embedded cluster: use httpGet, tcpSocket or exec"
        )

    async def _http(self, action: Object) -> Verdict:
        scheme = (action.get("scheme") or "HTTP").lower()
        host = action.get("host") or self._target.address
        url = f"{scheme}://{host}:{self._target.port}{action.get('path') or '/'}"
        headers = {"User-Agent": "kube-probe/1.34", "Connection": "close"}
        headers |= {header["name"]: header["value"] for header in action.get("httpHeaders") or []}
        context: ssl.SSLContext | bool = _trust_all() if scheme == "https" else True
        async with self._session.get(url, headers=headers, ssl=context, allow_redirects=False) as response:
            ok = 200 <= response.status < 400
            return Verdict(ok, "" if ok else f"HTTP probe failed with statuscode: {response.status}")

    async def _tcp(self, action: Object) -> Verdict:
        host = action.get("host") or self._target.address
        _, writer = await asyncio.open_connection(host, self._target.port)
        writer.close()
        return Verdict(True)

    async def _exec(self, action: Object) -> Verdict:
        target = self._target
        try:
            code = await target.runtime.execute(action["command"], target.env, target.cwd)
        except StartError as error:
            return Verdict(False, str(error))
        return Verdict(code == 0, "" if code == 0 else f"command exited with {code}")


def _trust_all() -> ssl.SSLContext:
    """Probes over HTTPS do not check the certificate, as in Kubernetes."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
