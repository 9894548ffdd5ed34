"""Subresources that are not just a part of their object: scale, token, binding, eviction, finalize; and the
reviews.

Each takes the call, does its work through the same verbs that everything uses, and returns the object to
answer with.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from cluster.embedded import body, budgets, patch, rbac
from cluster.embedded.apply import Manager
from cluster.embedded.auth import Tokens, User
from cluster.embedded.call import Call, now
from cluster.embedded.kinds import Registry
from cluster.embedded.rbac import Ask, Authorizer
from cluster.embedded.status import (
    ApiError,
    Cause,
    Object,
    bad_request,
    conflict,
    invalid,
    method_not_supported,
    wrong,
)
from cluster.embedded.store import Entry, encode
from cluster.embedded.verbs import MERGE_PATCH, STRATEGIC_PATCH, Answer, Verbs

Handler = Callable[[Call], Awaitable[Answer]]


class Subresources:
    """Handlers by (resource, subresource); a review has no subresource."""

    def __init__(self, verbs: Verbs, tokens: Tokens, authorizer: Authorizer, registry: Registry) -> None:
        self._verbs = verbs
        self._store = verbs.store
        self._tokens = tokens
        self._authorizer = authorizer
        self._registry = registry
        self._handlers: dict[tuple[str, str], Handler] = {
            ("serviceaccounts", "token"): self._token,
            ("pods", "binding"): self._bind,
            ("bindings", ""): self._bind,
            ("pods", "eviction"): self._evict,
            ("namespaces", "finalize"): self._finalize,
            ("tokenreviews.authentication.k8s.io", ""): self._token_review,
            ("selfsubjectreviews.authentication.k8s.io", ""): self._self_review,
            ("subjectaccessreviews.authorization.k8s.io", ""): self._access_review,
            ("localsubjectaccessreviews.authorization.k8s.io", ""): self._access_review,
            ("selfsubjectaccessreviews.authorization.k8s.io", ""): self._access_review,
            ("selfsubjectrulesreviews.authorization.k8s.io", ""): self._rules_review,
        }

    def handler(self, call: Call) -> Handler | None:
        """Who handles the call, or None if it is an ordinary one."""
        if call.target.subresource == "scale":
            return self._scale
        return self._handlers.get((call.kind.resource, call.target.subresource))

    def _document(self, call: Call, verb: str = "create") -> Object:
        """The JSON object in the body of a call whose verb must be `verb`."""
        if call.target.verb != verb:
            raise method_not_supported(call.target.verb)
        document = body.decode(call.body, call.content_type)
        if not isinstance(document, dict):
            raise bad_request("the request body must be an object")
        return document

    # Objects of their own

    async def _token(self, call: Call) -> Answer:
        request = self._document(call)
        account = self._store.get("serviceaccounts", call.target.namespace, call.target.name).object
        return Answer(201, encode(self._tokens.issue(account, request)))

    async def _bind(self, call: Call) -> Answer:
        document = self._document(call)
        name = call.target.name or document.get("metadata", {}).get("name", "")
        node = (document.get("target") or {}).get("name")
        if not node:
            raise bad_request("target.name: Required value: the node to bind the pod to")
        pods = self._registry.get("", "v1", "pods")
        target = replace(call.target, resource="pods", name=name, subresource="binding")
        pod_call = replace(call, kind=pods, target=target)

        def assign(pod: Object) -> Object:
            if pod["spec"].get("nodeName"):
                why = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
                raise conflict("pods/binding", name, why)
            if pod["metadata"].get("deletionTimestamp"):
                raise conflict(
                    "pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host"
                )
            pod["spec"]["nodeName"] = node
            scheduled = {
                "type": "PodScheduled",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": now(),
            }
            others = [
                c for c in pod.setdefault("status", {}).get("conditions") or [] if c["type"] != "PodScheduled"
            ]
            pod["status"]["conditions"] = [*others, scheduled]
            return pod

        await self._verbs.update(pod_call, assign, Manager(call.manager, "Update", "binding"))
        return Answer(201, encode(_done()))

    async def _evict(self, call: Call) -> Answer:
        document = self._document(call)
        entry = self._store.get("pods", call.target.namespace, call.target.name)
        spaced = call.target.namespace
        found = self._store.objects("poddisruptionbudgets.policy", spaced)
        budgets.check(entry.object, found, self._store.objects("pods", spaced))
        target = replace(call.target, verb="delete", subresource="")
        options = document.get("deleteOptions") or {}
        await self._verbs.delete(replace(call, target=target), call.target.name, options)
        return Answer(201, encode(_done()))

    async def _finalize(self, call: Call) -> Answer:
        new = self._document(call, "update")
        call = replace(call, target=replace(call.target, subresource="finalize"))

        def finalize(namespace: Object) -> Object:
            namespace["spec"] = {"finalizers": (new.get("spec") or {}).get("finalizers") or []}
            return namespace

        entry = await self._verbs.update(call, finalize, Manager(call.manager, "Update", "finalize"))
        return Answer(200, entry.json(call.kind.api_version))

    # Scale

    async def _scale(self, call: Call) -> Answer:
        entry = self._store.get(call.kind.resource, call.target.namespace, call.target.name)
        scale = self._scale_of(call, entry)
        if call.target.verb == "get":
            return Answer(200, encode(scale))
        document = body.decode(call.body, call.content_type)
        if call.target.verb == "patch":
            media = call.content_type.partition(";")[0].strip()
            merge = media in (MERGE_PATCH, STRATEGIC_PATCH)
            document = (patch.merge_patch if merge else patch.json_patch)(scale, document)
        elif call.target.verb != "update":
            raise method_not_supported(call.target.verb)
        replicas = (document.get("spec") or {}).get("replicas", 0)
        if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0:
            cause = wrong("spec.replicas", replicas, "must be a number greater than or equal to 0")
            raise invalid("Scale", "autoscaling", call.target.name, [cause])
        return await self._set_replicas(call, document, replicas)

    async def _set_replicas(self, call: Call, document: Object, replicas: int) -> Answer:
        path = self._scale_paths(call)["specReplicasPath"]
        version = document.get("metadata", {}).get("resourceVersion")

        def set_replicas(object: Object) -> Object:
            *way, last = path.strip(".").split(".")
            part = object
            for step in way:
                part = part.setdefault(step, {})
            part[last] = replicas
            if version:
                object["metadata"]["resourceVersion"] = version
            return object

        entry = await self._verbs.update(call, set_replicas, Manager(call.manager, "Update", "scale"))
        return Answer(200, encode(self._scale_of(call, entry)))

    @staticmethod
    def _scale_paths(call: Call) -> Object:
        own = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
        return call.kind.scale or own

    def _scale_of(self, call: Call, entry: Entry) -> Object:
        object, paths = entry.object, self._scale_paths(call)
        kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        status: Object = {"replicas": _at(object, paths["statusReplicasPath"]) or 0}
        selector = _at(object, paths.get("labelSelectorPath") or ".spec.selector")
        if isinstance(selector, dict):
            pairs = (selector.get("matchLabels") or {}).items()
            selector = ",".join(f"{key}={value}" for key, value in sorted(pairs))
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {key: object["metadata"][key] for key in kept if key in object["metadata"]},
            "spec": {"replicas": _at(object, paths["specReplicasPath"]) or 0},
            "status": status | ({"selector": selector} if selector else {}),
        }

    # Reviews

    async def _token_review(self, call: Call) -> Answer:
        review = self._document(call)
        spec = review.get("spec") or {}
        try:
            user, audiences = self._tokens.user(spec.get("token") or "", spec.get("audiences") or ())
            status: Object = {"authenticated": True, "user": user.info(), "audiences": audiences}
        except ApiError:
            status = {"user": {}, "error": "[invalid bearer token, token lookup failed]"}
        return _reviewed(call, review, status)

    async def _self_review(self, call: Call) -> Answer:
        return _reviewed(call, self._document(call), {"userInfo": call.user.info()})

    async def _access_review(self, call: Call) -> Answer:
        review = self._document(call)
        spec = review.get("spec") or {}
        user = call.user
        if not call.kind.resource.startswith("self"):
            user = User(spec.get("user", ""), tuple(spec.get("groups") or ()))
            if not user.name and not user.groups:
                raise invalid(call.kind.kind, call.kind.group, "", [_needs_user(spec)])
        allowed = self._authorizer.allows(user, _ask(spec))
        return _reviewed(
            call, review, {"allowed": allowed} | ({} if allowed else {"reason": "no RBAC rule allows it"})
        )

    async def _rules_review(self, call: Call) -> Answer:
        review = self._document(call)
        namespace = (review.get("spec") or {}).get("namespace", "")
        rules = list(self._authorizer.rules(call.user, namespace))
        if "system:masters" in call.user.groups:
            rules = [
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]
        status = {
            "resourceRules": [rule for rule in rules if rule.get("resources")],
            "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
            "incomplete": False,
        }
        return _reviewed(call, review, status)


def _needs_user(spec: Object) -> Cause:
    return wrong("spec.user", spec.get("user", ""), "at least one of user or group must be specified")


def _ask(spec: Object) -> Ask:
    if path := spec.get("nonResourceAttributes"):
        return Ask(path.get("verb", ""), path=path.get("path", ""))
    wanted = spec.get("resourceAttributes") or {}
    keys = ("verb", "group", "resource", "subresource", "namespace", "name")
    return rbac.Ask(**{key: wanted.get(key, "") for key in keys})


def _reviewed(call: Call, review: Object, status: Object) -> Answer:
    answer = {"kind": call.kind.kind, "apiVersion": call.kind.api_version, "metadata": {}} | review
    return Answer(201, encode(answer | {"status": status}))


def _done() -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _at(object: Any, path: str) -> Any:
    for step in path.strip(".").split("."):
        object = object.get(step) if isinstance(object, dict) else None
    return object
