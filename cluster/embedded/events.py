"""Events, as `kubectl describe` shows them: what happened to an object, in Kubernetes' words.

They are for people, so nothing waits for them: a queue of its own sends them one by one behind more urgent
calls, and the same thing happening again only raises a count.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime

import aiohttp

from cluster.embedded.kube import EVENTS, Api, ApiError, Object

PATIENCE = 0.25
"""Seconds for which events wait for what they tell of to be done."""

LIMIT = 1000
"""Events waiting to be sent; beyond that new ones are dropped, as Kubernetes drops them."""


def now() -> str:
    """The time as Kubernetes writes it, in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Recorder:
    """Sends events of one component (`scheduler`, `kubelet`, ...)."""

    def __init__(self, api: Api, host: str) -> None:
        self._api = api
        self._host = host
        self._queue: asyncio.Queue[tuple[str, Object, Object]] = asyncio.Queue(LIMIT)
        self._sent: dict[tuple[str, ...], Object] = {}
        self._task = asyncio.create_task(self._send_all(), name="events")

    def normal(self, component: str, obj: Object, reason: str, message: str, field: str = "") -> None:
        """Something that happens when all is well."""
        self._record(component, obj, "Normal", reason, message, field)

    def warning(self, component: str, obj: Object, reason: str, message: str, field: str = "") -> None:
        """Something a person should look at."""
        self._record(component, obj, "Warning", reason, message, field)

    def _record(self, component: str, obj: Object, kind: str, reason: str, message: str, field: str) -> None:
        meta = obj["metadata"]
        namespace = meta.get("namespace") or "default"
        involved = {
            "apiVersion": obj.get("apiVersion", "v1"), "kind": obj.get("kind", "Pod"), "name": meta["name"],
            "namespace": meta.get("namespace", ""), "uid": meta.get("uid", ""),
        }  # fmt: skip
        if field:
            involved["fieldPath"] = field
        event: Object = {
            "involvedObject": involved, "type": kind, "reason": reason, "message": message,
            "source": {"component": component, "host": self._host}, "count": 1,
            "firstTimestamp": now(), "lastTimestamp": now(), "reportingComponent": component,
        }  # fmt: skip
        if not self._queue.full():
            self._queue.put_nowait((namespace, event, meta))

    async def _send_all(self) -> None:
        while True:
            idle = self._queue.empty()
            namespace, event, meta = await self._queue.get()
            if idle:
                await asyncio.sleep(PATIENCE)
            try:
                await self._send(namespace, event, meta)
            except ApiError as error:
                if error.code not in (403, 404):  # the namespace is going away
                    print(f"event {event['reason']}: {error}", file=sys.stderr, flush=True)
            except (aiohttp.ClientError, OSError) as error:
                print(f"event {event['reason']}: {error}", file=sys.stderr, flush=True)

    async def _send(self, namespace: str, event: Object, meta: Object) -> None:
        involved = event["involvedObject"]
        key = (involved["uid"], involved.get("fieldPath", ""), event["reason"], event["message"])
        if known := self._sent.get(key):
            known["count"] += 1
            update = {"count": known["count"], "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._api.patch(EVENTS, namespace, known["name"], update)
                return
            except ApiError as error:
                if error.code != 404:
                    raise
        name = f"{meta['name']}.{time.time_ns():x}"
        await self._api.create(
            EVENTS, namespace, {"metadata": {"name": name, "namespace": namespace}, **event}
        )
        self._sent[key] = {"name": name, "count": 1}
        if len(self._sent) > LIMIT:
            self._sent.pop(next(iter(self._sent)))
