"""The two questions the API server asks before it stores something: how is this pod to look, is this rule
valid?

Admission webhooks (Kubernetes, Dynamic Admission Control) on port 15017. The decisions are elsewhere and
pure (`inject`, `mesh.api`, `analyze`); here is the AdmissionReview around them. A rule that is wrong is
refused with the path of the field; a rule that points to what is not there (yet) is accepted with a
warning.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from mesh.api import Invalid, parse
from mesh.api.objects import ConfigObject
from mesh.api.virtual_service import VirtualServiceSpec
from mesh.control.compile.delegates import delegate_of
from mesh.control.inject import InjectError, Injection, inject, wants_sidecar
from mesh.control.limits import beyond_the_sidecar
from mesh.control.status import by_rule, safely_analyzed
from mesh.control.world import World

log = logging.getLogger(__name__)

Object = dict[str, Any]

LARGEST_BODY = 8 << 20
HEARD_OF_SECONDS = 1.0
"""How long what was stored before a question may take to be known here."""
NO_HOSTS = (
    "spec.hosts: is required: no VirtualService delegates to this one (if one is to, apply that one first)"
)


@dataclass
class Webhooks:
    """The HTTP application; `counts` says how often it did what."""

    world: Callable[[], World]
    injection: Callable[[], Injection]
    counts: dict[str, int] = field(
        default_factory=lambda: {"injected": 0, "left": 0, "accepted": 0, "refused": 0}
    )

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=LARGEST_BODY)
        app.add_routes([web.post("/inject", self._post_inject), web.post("/validate", self._post_validate)])
        return app

    async def _post_inject(self, http: web.Request) -> web.Response:
        return await self._answer(http, self.review_pod)

    async def _post_validate(self, http: web.Request) -> web.Response:
        return await self._answer(http, self.review_rule)

    async def _answer(self, http: web.Request, review: Callable[[Object], Awaitable[Object]]) -> web.Response:
        try:
            said = json.loads(await http.read())
            asked = said["request"]
            uid = asked["uid"]
        except (ValueError, KeyError, TypeError):
            return web.Response(status=400, text="the body is no AdmissionReview with a request\n")
        answer = {"uid": uid} | await review(asked)
        return web.json_response(
            {"apiVersion": said["apiVersion"], "kind": "AdmissionReview", "response": answer}
        )

    async def review_pod(self, asked: Object) -> Object:
        """The answer about one pod: allowed, with a patch when it is to have a sidecar."""
        pod, namespace, world = asked.get("object") or {}, asked.get("namespace") or "default", self.world()
        known = world.namespaces.get(namespace)  # the API server has matched its labels already
        if not wants_sidecar(pod, namespace, known.labels if known else {"istio-injection": "enabled"}):
            self.counts["left"] += 1
            return {"allowed": True}
        try:
            patch = inject(pod, namespace, world.mesh, self.injection())
        except InjectError as error:
            return _refuse(str(error))
        self.counts["injected"] += 1
        return {
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }

    async def review_rule(self, asked: Object) -> Object:
        """The answer about one rule: refused with every problem, or allowed with what is doubtful as
        warnings.
        """
        obj = asked.get("object")
        if isinstance(obj, dict) and isinstance(obj.get("metadata"), dict):
            obj["metadata"].setdefault("namespace", asked.get("namespace") or "default")
        try:
            rule = parse(obj)
        except Invalid as invalid:
            self.counts["refused"] += 1
            return _refuse("; ".join(str(problem) for problem in invalid.problems))
        if beyond := beyond_the_sidecar(rule):
            self.counts["refused"] += 1
            return _refuse("; ".join(str(problem) for problem in beyond))
        if not await self._has_hosts(rule):
            if not asked.get("dryRun"):  # there, the one that delegates may be part of the same rehearsal
                self.counts["refused"] += 1
                return _refuse(NO_HOSTS)
            return {"allowed": True, "warnings": [NO_HOSTS]}
        self.counts["accepted"] += 1
        return {"allowed": True, "warnings": warnings(self.world(), rule)}

    async def _has_hosts(self, rule: ConfigObject[Any]) -> bool:
        """Whether a VirtualService has hosts, of its own or of one that delegates to it.

        Istio takes one without for a delegate, whoever forgot them; we ask that the one which delegates is there
        first. It may have been stored a moment ago, before we were told, so a "no" is given time to become a "yes".
        """
        deadline = time.monotonic() + HEARD_OF_SECONDS
        while not has_hosts(rule, self.world()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True


def has_hosts(rule: ConfigObject[Any], world: World) -> bool:
    """Whether a rule is no VirtualService, or one that can ever get a request."""
    if not isinstance(rule.spec, VirtualServiceSpec) or rule.spec.hosts:
        return True
    others = world.config.get(rule.kind, {}).values()
    key = (rule.namespace, rule.name)
    return any(delegate_of(other, each) == key for other in others for each in other.spec.http)


def warnings(world: World, rule: ConfigObject[Any]) -> list[str]:
    """What is doubtful about a rule if it were part of this world."""
    key = (rule.namespace, rule.name)
    rules = {**world.config, rule.kind: {**world.config.get(rule.kind, {}), key: rule}}
    findings = by_rule(safely_analyzed(world.imagine(config=rules))).get((rule.kind, *key), [])
    return [f"{finding.path}: {finding.sentence} [{finding.code}]" for finding in findings]


def _refuse(message: str) -> Object:
    return {"allowed": False, "status": {"code": 422, "reason": "Invalid", "message": message}}
