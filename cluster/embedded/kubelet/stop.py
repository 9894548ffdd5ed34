"""Ending containers with grace: preStop, SIGTERM, and SIGKILL when terminationGracePeriodSeconds are over.

Main containers end first and together; then sidecars, the last started first, so that an app can use its
proxy to the end. (Kubernetes "Pod Lifecycle, Termination of Pods".)
"""

from __future__ import annotations

import asyncio
import signal

from cluster.embedded.kubelet import hooks
from cluster.embedded.kubelet.context import PodContext
from cluster.embedded.kubelet.plan import Record, Running

AT_LEAST = 2.0
"""Seconds a sidecar gets even if the main containers used up all the grace there was (as in Kubernetes)."""


async def stop_pod(context: PodContext, grace: float) -> None:
    """End every running container of a pod."""
    context.stopping = True
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace
    running = [r for r in context.records.values() if isinstance(r.state, Running)]
    first = [r for r in running if r.kind != "sidecar"]
    await asyncio.gather(*(stop_container(context, record, grace) for record in first))
    for record in reversed([r for r in running if r.kind == "sidecar"]):
        left = max(deadline - loop.time(), AT_LEAST if grace > 0 else 0.0)
        await stop_container(context, record, left)


async def stop_container(context: PodContext, record: Record, grace: float, *, quietly: bool = False) -> None:
    """End one container; returns when its processes are gone."""
    process = context.processes.get(record.name)
    if process is None:
        return
    if not quietly:
        context.event("Normal", "Killing", f"Stopping container {record.name}", record)
    if grace > 0:
        try:
            async with asyncio.timeout(grace):
                await _pre_stop(context, record)
                await context.host.runtime.kill(process, signal.SIGTERM)
                await asyncio.shield(process.exited)
        except TimeoutError:
            pass  # its grace is over
    await context.host.runtime.kill(process, signal.SIGKILL)
    await asyncio.shield(process.exited)
    await asyncio.sleep(0)  # lets the record be updated


async def _pre_stop(context: PodContext, record: Record) -> None:
    """The container's preStop hook; a failing hook is an event and does not stop the stop."""
    try:
        await hooks.run(context, record, "preStop")
    except hooks.HookError as error:
        context.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {error}", record)
