"""The two questions the API server asks before it stores something: how is this pod to look, is this rule
valid?

Admission webhooks (Kubernetes, Dynamic Admission Control) on port 15017. The decisions are elsewhere and
pure (`inject`, `mesh.api`, `analyze`); here is the AdmissionReview around them. A rule that is wrong is
refused with the path of the field; a rule that points to what is not there (yet) is accepted with a
warning.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from mesh.api import Invalid, parse
from mesh.api.objects import ConfigObject
from mesh.control.inject import InjectError, Injection, inject, wants_sidecar
from mesh.control.status import by_rule, safely_analyzed
from mesh.control.world import World

log = logging.getLogger(__name__)

Object = dict[str, Any]

LARGEST_BODY = 8 << 20


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

    async def _answer(self, http: web.Request, review: Callable[[Object], Object]) -> web.Response:
        try:
            said = json.loads(await http.read())
            asked = said["request"]
            uid = asked["uid"]
        except (ValueError, KeyError, TypeError):
            return web.Response(status=400, text="the body is no AdmissionReview with a request\n")
        answer = {"uid": uid} | review(asked)
        return web.json_response(
            {"apiVersion": said["apiVersion"], "kind": "AdmissionReview", "response": answer}
        )

    def review_pod(self, asked: Object) -> Object:
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

    def review_rule(self, asked: Object) -> Object:
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
        self.counts["accepted"] += 1
        return {"allowed": True, "warnings": warnings(self.world(), rule)}


def warnings(world: World, rule: ConfigObject[Any]) -> list[str]:
    """What is doubtful about a rule if it were part of this world."""
    key = (rule.namespace, rule.name)
    rules = {**world.config, rule.kind: {**world.config.get(rule.kind, {}), key: rule}}
    findings = by_rule(safely_analyzed(world.imagine(config=rules))).get((rule.kind, *key), [])
    return [f"{finding.path}: {finding.sentence} [{finding.code}]" for finding in findings]


def _refuse(message: str) -> Object:
    return {"allowed": False, "status": {"code": 422, "reason": "Invalid", "message": message}}
