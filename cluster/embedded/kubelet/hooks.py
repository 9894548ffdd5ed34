"""Lifecycle hooks: what a container runs, or is asked, right after its start and right before its end."""

from __future__ import annotations

import asyncio

import aiohttp

from cluster.embedded.kube import Object
from cluster.embedded.kubelet.context import PodContext
from cluster.embedded.kubelet.plan import Record
from cluster.embedded.kubelet.runtime import StartError


class HookError(Exception):
    """The hook could not be run, or failed."""


async def run(context: PodContext, record: Record, which: str) -> None:
    """Run the container's `postStart` or `preStop`, if it has one; HookError if that fails."""
    hook = (record.spec.get("lifecycle") or {}).get(which) or {}
    try:
        if action := hook.get("exec"):
            env, cwd = context.launched[record.name]
            code = await context.host.runtime.execute(action["command"], env, cwd)
            if code:
                raise HookError(f"command {action['command']} exited with {code}")
        elif action := hook.get("sleep"):
            await asyncio.sleep(action["seconds"])
        elif action := hook.get("httpGet"):
            await _get(context, record, action)
    except (StartError, ValueError, OSError, aiohttp.ClientError) as error:
        raise HookError(str(error)) from error


async def _get(context: PodContext, record: Record, action: Object) -> None:
    host, real = context.place_of_port(record, action["port"])
    url = f"http://{action.get('host') or host}:{real}{action.get('path') or '/'}"
    async with context.host.session.get(url) as response:
        if response.status >= 400:
            raise HookError(f"{url} answered {response.status}")
