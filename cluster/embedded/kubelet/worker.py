"""One pod's life: a loop that asks `plan` what to do, does it, reports the status, and sleeps until something
happens.

What can happen: a container exits, a probe changes its mind, a back-off is over, the pod or a ConfigMap of
its changes, the pod is deleted. Each of these only wakes the loop; what to do then follows from the records
alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import traceback
from dataclasses import dataclass

from cluster.embedded.kube import PODS, ApiError, Object
from cluster.embedded.kubelet import containers, plan, stop
from cluster.embedded.kubelet.context import PodContext
from cluster.embedded.kubelet.files import MountError
from cluster.embedded.kubelet.status import status_of
from cluster.embedded.ports import of_pod

MOUNT_RETRY = 2.0


@dataclass(frozen=True)
class Deletion:
    """The pod is to end: within `grace` seconds; `gone` if the API has forgotten it already."""

    grace: float
    gone: bool


class Worker:
    """Runs one pod, from its binding to its removal."""

    def __init__(self, context: PodContext) -> None:
        self.context = context
        self._wake = context.wake
        self._deletion: Deletion | None = None
        self._stopper: asyncio.Task[None] | None = None
        self._sent: Object | None = None
        self._mounted = False
        self._mount_due = 0.0
        self.task = asyncio.create_task(self._run(), name=f"pod {context.name}")

    def update(self, pod: Object) -> None:
        """The pod's object changed: labels, images, or its deletion was asked for."""
        images = [r.spec.get("image") for r in self.context.records.values()]
        self.context.take(pod)
        if images != [r.spec.get("image") for r in self.context.records.values()]:
            self.reconsider()
        if pod["metadata"].get("deletionTimestamp"):
            self.delete(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
        self._wake.set()

    def delete(self, grace: float, *, gone: bool = False) -> None:
        """End the pod; a second call may only make it quicker."""
        if self._deletion and self._deletion.grace <= grace and self._deletion.gone >= gone:
            return
        quicker = self._deletion is not None
        self._deletion = Deletion(grace, gone)
        if quicker and self._stopper:
            self._stopper.cancel()
            self._stopper = None
        self._wake.set()

    def source_changed(self, kind: str, name: str) -> None:
        """A ConfigMap or Secret changed: renew volumes, try containers that lacked it."""
        if self.context.volumes.uses(kind, name):
            self._mount_due = 0.0
        self.reconsider()
        self._wake.set()

    def reconsider(self) -> None:
        """Try containers again that waited for a change of their configuration."""
        for record in self.context.records.values():
            record.blocked = False
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                if await self._turn():
                    return
            except ApiError as error:
                print(f"pod {self.context.name}: {error}", file=sys.stderr, flush=True)
                await asyncio.sleep(0.2)
            except Exception:  # noqa: BLE001 - one bad pod must not end the kubelet
                print(f"pod {self.context.name}: {traceback.format_exc()}", file=sys.stderr, flush=True)
                await asyncio.sleep(1)

    async def _turn(self) -> bool:
        """One round; True when the pod is over and cleaned up."""
        self._wake.clear()
        context, again = self.context, None
        if self._deletion is None:
            await self._publish_ports()
            if await self._mount():
                steps = plan.next_steps(context.policy, context.records, time.time())
                await self._carry_out(steps)
                again = steps.again
            again = min(again or float("inf"), self._mount_due, self._pull_again() or float("inf"))
        elif await self._end():
            return True
        await asyncio.sleep(0)  # lets probes of what has just been started have their first say
        if not self._wake.is_set():
            await self._report()
        await self._sleep_until(again)
        return False

    async def _publish_ports(self) -> None:
        """Where there is only one address: say which ports are this pod's, before it serves there."""
        ports, meta = self.context.ports, self.context.pod["metadata"]
        if ports.outer and not of_pod(self.context.pod):
            body = {"metadata": {"annotations": ports.annotations()}}
            written = await self.context.host.api.patch(PODS, meta["namespace"], meta["name"], body)
            self.context.take({"kind": "Pod", "apiVersion": "v1", **written})

    async def _mount(self) -> bool:
        """Volumes in place; False while they cannot be."""
        if time.time() < self._mount_due:
            return self._mounted
        try:
            await self.context.volumes.update()
            self._mounted = True
            self._mount_due = self.context.volumes.refresh_at
        except MountError as error:
            self.context.event("Warning", "FailedMount", str(error))
            self._mount_due = time.time() + MOUNT_RETRY
        return self._mounted

    def _pull_again(self) -> float | None:
        """An image that cannot be pulled now could not be pulled later either: only the words change with
        time.
        """
        due: list[float] = []
        for record in self.context.records.values():
            if (
                record.blocked
                and isinstance(record.state, plan.Waiting)
                and record.state.reason == "ErrImagePull"
            ):
                when = record.blocked_since + plan.FIRST_BACK_OFF
                if when <= time.time():
                    image = record.spec.get("image", "")
                    self.context.event("Normal", "BackOff", f'Back-off pulling image "{image}"', record)
                    message = f'Back-off pulling image "{image}": ErrImagePull: {record.state.message}'
                    record.state = plan.Waiting("ImagePullBackOff", message)
                else:
                    due.append(when)
        return min(due, default=None)

    async def _carry_out(self, steps: plan.Plan) -> None:
        context = self.context
        for name in steps.back_off:
            context.say_back_off(context.records[name])
        if steps.start:
            await asyncio.gather(*(containers.start(context, context.records[name]) for name in steps.start))
            self._wake.set()
        if steps.stop and self._stopper is None:
            self._stopper = asyncio.create_task(stop.stop_pod(context, context.grace))

    async def _end(self) -> bool:
        """Stop everything, tell the API, clean up."""
        assert self._deletion is not None
        context = self.context
        if self._stopper is None:
            grace = 0.0 if self._deletion.gone else self._deletion.grace
            self._stopper = asyncio.create_task(stop.stop_pod(context, grace))
            self._stopper.add_done_callback(lambda _: self._wake.set())
        if not self._stopper.done():
            return False
        if not self._deletion.gone:
            await self._report()
            meta = context.pod["metadata"]
            await context.host.api.delete(PODS, meta["namespace"], meta["name"], uid=meta["uid"], grace=0)
        context.clean_up()
        return True

    async def _report(self) -> None:
        """Write the status if it says anything new."""
        context = self.context
        if self._deletion and self._deletion.gone:
            return
        addresses = (context.pair.pod, context.host.address)
        status = status_of(context.pod, context.records, addresses, context.accepted, time.time())
        if status == self._sent:
            return
        meta = context.pod["metadata"]
        body = {"metadata": {"uid": meta["uid"]}, "status": status}
        try:
            written = await context.host.api.patch(PODS, meta["namespace"], meta["name"], body, "status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            self.delete(0, gone=True)
            return
        self._sent = status
        context.pod = {**written, "kind": "Pod", "apiVersion": "v1"}
        context.host.pods.assume(context.pod)

    async def _sleep_until(self, again: float | None) -> None:
        seconds = None if again is None or again == float("inf") else max(0.0, again - time.time())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
