"""Watching over a running container: its probes, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.embedded.kubelet import hooks, plan, probes, stop
from cluster.embedded.kubelet.context import PodContext
from cluster.embedded.kubelet.plan import Ended, Record, Running
from cluster.embedded.kubelet.runtime import Process


def begin(context: PodContext, record: Record, process: Process, env: dict[str, str], cwd: Path) -> None:
    """Watch over a container that has just been started."""
    probing = asyncio.create_task(_Probes(context, record, env, cwd).run())
    context.watchers[record.name] = probing
    context.enders[record.name] = asyncio.create_task(_await_end(context, record, process, probing))


@dataclass
class _Probes:
    """The probes of one run of a container."""

    context: PodContext
    record: Record
    env: dict[str, str]
    cwd: Path

    async def run(self) -> None:
        """Startup probe first; once that has passed, readiness and liveness side by side."""
        record = self.record
        try:
            await hooks.run(self.context, record, "postStart")
        except hooks.HookError as error:
            self.context.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {error}", record)
            self._end()
            return
        if record.spec.get("startupProbe"):
            await self._startup()
        record.started = True
        record.ready = not record.spec.get("readinessProbe")
        self.context.wake.set()
        async with asyncio.TaskGroup() as group:
            if record.spec.get("readinessProbe"):
                group.create_task(self._prober("Readiness").run(self._on_ready, self._unhealthy))
            if record.spec.get("livenessProbe"):
                group.create_task(self._prober("Liveness").run(self._on_live, self._unhealthy))

    async def _startup(self) -> None:
        passed = asyncio.Event()

        async def changed(ok: bool) -> None:
            if ok:
                passed.set()
            else:
                self._restart("startup")

        asking = asyncio.create_task(self._prober("Startup").run(changed, self._unhealthy))
        try:
            await passed.wait()
        finally:
            asking.cancel()

    def _prober(self, name: str) -> probes.Prober:
        probe = self.record.spec[f"{name.lower()}Probe"]
        asked = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port", 0)
        try:
            address, real = self.context.place_of_port(self.record, asked)
        except ValueError:
            self._unhealthy(f"{name} probe errored: couldn't find port: {asked!r}")
            address, real = self.context.pair.pod, 0  # where nobody answers
        host = self.context.host
        target = probes.Target(address, real, host.runtime, self.env, self.cwd)
        return probes.Prober(name, probe, target, host.session)

    def _unhealthy(self, message: str) -> None:
        if not self.context.stopping:
            self.context.event("Warning", "Unhealthy", message, self.record)

    async def _on_ready(self, ok: bool) -> None:
        self.record.ready = ok
        self.context.wake.set()

    async def _on_live(self, ok: bool) -> None:
        if not ok:
            self._restart("liveness")

    def _restart(self, which: str) -> None:
        """The container is to be started anew."""
        context, record = self.context, self.record
        if context.stopping:
            return
        message = f"Container {record.name} failed {which} probe, will be restarted"
        context.event("Normal", "Killing", message, record)
        self._end()

    def _end(self) -> None:
        """End the container, in a task of its own, since the container's end cancels this one."""
        context, record = self.context, self.record
        ending = stop.stop_container(context, record, context.grace, quietly=True)
        context.enders[f"{record.name} by its kubelet"] = asyncio.create_task(ending)


async def _await_end(
    context: PodContext, record: Record, process: Process, probing: asyncio.Task[None]
) -> None:
    """Note how the container ended."""
    ended = await asyncio.shield(process.exited)
    probing.cancel()
    since = record.state.since if isinstance(record.state, Running) else time.time()
    reason = "Completed" if ended.code == 0 else "Error"
    context.processes.pop(record.name, None)
    message = _termination_message(record, context)
    plan.note_end(record, Ended(ended.code, reason, since, time.time(), ended.signal, message))
    context.wake.set()


def _termination_message(record: Record, context: PodContext) -> str:
    """What the container wrote to its terminationMessagePath, 4 KiB at most."""
    path = context.volumes.root_of(record.name) / str(
        record.spec.get("terminationMessagePath") or "/dev/termination-log"
    ).strip("/")
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")[:4096]
    return ""
