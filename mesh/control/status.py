"""Tells the author of a rule what became of it: conditions in the object's `status`, as Istio writes them.

`Reconciled` says whether every proxy has taken the rule over, and if not, what the proxy that refused it
said. `PassedAnalysis` says what is doubtful about it. Beside the way of a config change, after `publish`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mesh.api import BY_NAME, ConfigObject, Invalid
from mesh.control.analyze import Finding, analyze
from mesh.control.kube import Kube, KubeError, Object, Resource
from mesh.control.publish import Connection
from mesh.control.world import World

log = logging.getLogger(__name__)

QUIET = 0.3
"""Seconds without news before states are written: what settles at once is written once."""

RuleKey = tuple[str, str, str]
"""Kind, namespace, name."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of `status.conditions`; `status` is "True" or "False"."""

    type: str
    status: str
    reason: str
    message: str


def reconciled(rule: ConfigObject[Any], connections: Iterable[Connection]) -> Condition:
    """Whether every connected proxy runs with this very rule."""
    key, waiting, refused = (rule.namespace, rule.name), 0, ""
    for connection in connections:
        accepted = connection.accepted
        if accepted is not None and accepted.config.get(rule.kind, {}).get(key) is rule:
            continue
        waiting += 1
        said = [f"{name}: {one.reason}" for name, one in connection.refusals.items()]
        if problem := connection.problem or "; ".join(said):
            refused = refused or f"{connection.name}: {problem}"
    if refused:
        message = f"{waiting} proxies run with the last good configuration; {refused}"
        return Condition("Reconciled", "False", "Refused", message)
    if waiting:
        return Condition("Reconciled", "False", "Waiting", f"{waiting} proxies have not acknowledged it yet")
    return Condition("Reconciled", "True", "Accepted", "every proxy is up to date with this generation")


def analyzed(findings: Sequence[Finding]) -> Condition:
    """What the analysis has found about a rule."""
    if not findings:
        return Condition("PassedAnalysis", "True", "NoFindings", "nothing doubtful was found")
    worst = "ErrorsFound" if any(one.level == "Error" for one in findings) else "WarningsFound"
    said = "; ".join(f"[{one.code}] {one.path}: {one.sentence}" for one in findings)
    return Condition("PassedAnalysis", "False", worst, said)


def safely_analyzed(world: World) -> list[Finding]:
    """The findings; none when the analysis itself fails, since advice must not stand in the way of service."""
    try:
        return analyze(world)
    except Exception:
        log.exception("the analysis of the rules failed; this is a fault of the mesh, not of a rule")
        return []


def by_rule(findings: Iterable[Finding]) -> dict[RuleKey, list[Finding]]:
    """The findings of each rule."""
    found: dict[RuleKey, list[Finding]] = {}
    for one in findings:
        found.setdefault((one.kind, one.namespace, one.name), []).append(one)
    return found


def status(
    generation: int, conditions: Sequence[Condition], findings: Sequence[Finding], old: Object, now: str
) -> Object:
    """The new `status` of a rule; a condition that has not changed keeps its time."""
    before = {one.get("type"): one for one in old.get("conditions") or ()}
    new: Object = {"observedGeneration": generation, "conditions": []}
    for one in conditions:
        last = before.get(one.type) or {}
        since = last.get("lastTransitionTime", now) if last.get("status") == one.status else now
        new["conditions"].append(
            {
                "type": one.type,
                "status": one.status,
                "reason": one.reason,
                "message": one.message,
                "lastTransitionTime": since,
            }
        )
    new["validationMessages"] = [
        {"type": {"name": one.sentence, "code": one.code}, "level": one.level.upper()} for one in findings
    ]
    return new


class StatusWriter:
    """Writes the status of every rule whose state has changed. `news` may be called as often as anything
    happens.
    """

    def __init__(
        self,
        kube: Kube,
        world: Callable[[], World],
        connections: Callable[[], Iterable[Connection]],
        rules: Callable[[], Mapping[RuleKey, Object]],
        invalid: Callable[[], Mapping[RuleKey, Invalid]],
    ) -> None:
        self._kube, self._world, self._connections = kube, world, connections
        self._rules, self._invalid = rules, invalid
        self._news = asyncio.Event()

    def news(self) -> None:
        """Something has changed: a rule, a proxy, what a proxy says."""
        self._news.set()

    async def run(self) -> None:
        """Write what is due, until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(QUIET)
            self._news.clear()
            for key, new in self.due().items():
                await self._write(key, new)

    def due(self) -> dict[RuleKey, Object]:
        """The status of each rule that does not have it yet."""
        world, rules = self._world(), self._rules()
        findings = by_rule(safely_analyzed(world))
        connections, now = list(self._connections()), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        new: dict[RuleKey, Object] = {}
        for key, obj in rules.items():
            conditions = self._conditions(key, world, connections, findings.get(key, []))
            old = obj.get("status") or {}
            generation = obj["metadata"].get("generation") or 0
            wanted = status(generation, conditions, findings.get(key, []), old, now)
            if conditions and any(old.get(part) != wanted[part] for part in wanted):
                new[key] = wanted
        return new

    def _conditions(
        self, key: RuleKey, world: World, connections: Sequence[Connection], findings: Sequence[Finding]
    ) -> list[Condition]:
        if key in self._invalid():
            return [Condition("Reconciled", "False", "Invalid", str(self._invalid()[key]))]
        rule = world.config.get(key[0], {}).get((key[1], key[2]))
        return [reconciled(rule, connections), analyzed(findings)] if rule is not None else []

    async def _write(self, key: RuleKey, new: Object) -> None:
        kind = BY_NAME[key[0]]
        resource = Resource(kind.group, kind.versions[0], kind.plural)
        try:
            await self._kube.patch(resource, key[2], {"status": new}, key[1], "status")
        except KubeError as error:
            if error.status != 404:  # deleted meanwhile
                log.warning("status of %s %s/%s: %s", *key, error)
