"""What to do next for a pod: a pure decision over its spec and what is known of its containers.

Order of a pod's life (Kubernetes "Init containers", "Sidecar containers"): init containers one after the
other, each to success; an init container with `restartPolicy: Always` is a sidecar: the next waits only until
it has started, and it runs on until the main containers have ended. Back-off between restarts as the
kubelet's: none before the first, then 10 s, doubled up to five minutes, forgotten after ten minutes of
running.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from cluster.embedded.kube import Object

Kind = Literal["init", "sidecar", "main"]

FIRST_BACK_OFF = 10.0
LONGEST_BACK_OFF = 300.0
FORGIVEN_AFTER = 600.0


@dataclass(frozen=True)
class Waiting:
    """Not running (yet, or for a while)."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """Its process lives; times in seconds since the epoch."""

    since: float


@dataclass(frozen=True)
class Ended:
    """Its process has ended."""

    code: int
    reason: str
    since: float
    until: float
    signal: int = 0
    message: str = ""


@dataclass
class Record:
    """All the kubelet knows of one container of a pod."""

    name: str
    kind: Kind
    spec: Object
    state: Waiting | Running | Ended = field(default_factory=lambda: Waiting("ContainerCreating"))
    last: Ended | None = None
    restarts: int = 0
    started: bool = False
    ready: bool = False
    crashes: int = 0  # in a row, for the back-off
    blocked: bool = False  # by an image or a configuration: waits for a change, not for a time
    blocked_since: float = 0.0


@dataclass
class Plan:
    """What to do now, and when to ask again (seconds since the epoch) if nothing happens before."""

    start: list[str] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)
    back_off: list[str] = field(default_factory=list)
    again: float | None = None

    def _later(self, when: float) -> None:
        self.again = when if self.again is None else min(self.again, when)


def records_of(pod: Object) -> dict[str, Record]:
    """Fresh records for a pod's containers, init containers first, in order."""
    spec = pod["spec"]
    found: dict[str, Record] = {}
    for container in spec.get("initContainers") or []:
        kind: Kind = "sidecar" if container.get("restartPolicy") == "Always" else "init"
        found[container["name"]] = Record(container["name"], kind, container)
    for container in spec["containers"]:
        found[container["name"]] = Record(container["name"], "main", container)
    waiting = Waiting("PodInitializing") if any(r.kind != "main" for r in found.values()) else None
    for record in found.values():
        if waiting and record.kind == "main":
            record.state = waiting
    return found


def restarts(policy: str, record: Record) -> bool:
    """Whether a container that ended is to run again."""
    if not isinstance(record.state, Ended) or record.kind == "sidecar":
        return True
    if record.kind == "init":
        return record.state.code != 0 and policy != "Never"
    return policy == "Always" or (policy == "OnFailure" and record.state.code != 0)


def back_off(record: Record) -> float:
    """Seconds from a container's end to its restart."""
    if record.crashes <= 1:
        return 0.0
    return float(min(FIRST_BACK_OFF * 2.0 ** (record.crashes - 2), LONGEST_BACK_OFF))


def next_steps(policy: str, records: dict[str, Record], now: float) -> Plan:
    """The pod's plan under its restartPolicy at time `now`."""
    plan = Plan()
    if failed_init(policy, records) or all_main_done(policy, records):
        plan.stop = [r.name for r in records.values() if isinstance(r.state, Running)]
        return plan
    for record in _due(policy, records):
        if record.blocked or isinstance(record.state, Running):
            continue
        when = _ready_at(record)
        if when <= now:
            plan.start.append(record.name)
        else:
            plan.back_off.append(record.name)
            plan._later(when)
    return plan


def _due(policy: str, records: dict[str, Record]) -> Iterator[Record]:
    """Containers that should be running now."""
    begun = any(r.kind == "main" and (r.last or not isinstance(r.state, Waiting)) for r in records.values())
    for record in records.values():
        if record.kind == "init" and not begun:
            if isinstance(record.state, Ended) and record.state.code == 0:
                continue
            yield record
            return
        if record.kind == "sidecar":
            yield record
            if not begun and not record.started:
                return
        if record.kind == "main" and restarts(policy, record):
            yield record


def _ready_at(record: Record) -> float:
    ended = record.state if isinstance(record.state, Ended) else record.last
    return ended.until + back_off(record) if ended else 0.0


def failed_init(policy: str, records: dict[str, Record]) -> bool:
    """An init container failed and the pod's policy is not to try again."""
    inits = (r.state for r in records.values() if r.kind == "init")
    return policy == "Never" and any(isinstance(state, Ended) and state.code != 0 for state in inits)


def all_main_done(policy: str, records: dict[str, Record]) -> bool:
    """Every main container has ended for good."""
    mains = [r for r in records.values() if r.kind == "main"]
    return all(isinstance(r.state, Ended) and not restarts(policy, r) for r in mains)


def finished(policy: str, records: dict[str, Record]) -> bool:
    """Nothing runs and nothing will: the pod has succeeded or failed."""
    over = failed_init(policy, records) or all_main_done(policy, records)
    return over and not any(isinstance(r.state, Running) for r in records.values())


def note_end(record: Record, ended: Ended) -> None:
    """The container's process has ended."""
    long_enough = ended.until - ended.since >= FORGIVEN_AFTER
    record.crashes = 1 if long_enough else record.crashes + 1
    record.state = ended
    record.last = ended
    record.started = record.ready = False


def note_blocked(record: Record, waiting: Waiting, now: float) -> None:
    """The container cannot run until something changes."""
    record.state = waiting
    record.blocked = True
    record.blocked_since = now
