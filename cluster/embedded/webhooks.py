"""Admission webhooks: asking servers in the cluster about objects before they are stored.

Mutating webhooks are asked one after the other, in the order of their configurations' names, and answer with
a JSON patch; validating ones are asked at once and may only refuse. (Kubernetes docs "Dynamic Admission
Control".)
"""

import asyncio
import base64
import json
import logging
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from cluster.embedded import body, endpoints, patch
from cluster.embedded.call import Call
from cluster.embedded.kinds import Kind
from cluster.embedded.paths import Target
from cluster.embedded.selectors import labels_of, selector_object
from cluster.embedded.status import ApiError, Object, bad_request, internal
from cluster.embedded.store import Store, encode

log = logging.getLogger(__name__)

GROUP = "admissionregistration.k8s.io"
MUTATING, VALIDATING = f"mutatingwebhookconfigurations.{GROUP}", f"validatingwebhookconfigurations.{GROUP}"
LARGEST_ANSWER = 4 * 1024 * 1024
"""Bytes."""


def rule_matches(rule: Object, kind: Kind, target: Target, operation: str) -> bool:
    """Does a webhook's rule cover this operation on this resource?"""
    if not {"*", operation} & set(rule.get("operations") or []):
        return False
    if not {"*", kind.group} & set(rule.get("apiGroups") or []):
        return False
    if not {"*", kind.version} & set(rule.get("apiVersions") or []):
        return False
    scope = rule.get("scope", "*")
    if scope != "*" and scope != ("Namespaced" if kind.namespaced else "Cluster"):
        return False
    return any(
        _resource_matches(text, kind.plural, target.subresource) for text in rule.get("resources") or []
    )


def _resource_matches(pattern: str, plural: str, subresource: str) -> bool:
    resource, slash, sub = pattern.partition("/")
    if resource not in ("*", plural):
        return False
    return sub in ("*", subresource) if slash else not subresource


@dataclass(frozen=True, slots=True)
class Question:
    """What a webhook is asked about."""

    call: Call
    operation: str
    object: Object | None
    old: Object | None

    def review(self) -> Object:
        """The `AdmissionReview` to send."""
        kind, target = self.call.kind, self.call.target
        names = {"group": kind.group, "version": kind.version}
        subject = self.object or self.old or {"metadata": {}}
        request = {
            "uid": str(uuid.uuid4()),
            "kind": names | {"kind": kind.kind},
            "resource": names | {"resource": kind.plural},
            "requestKind": names | {"kind": kind.kind},
            "requestResource": names | {"resource": kind.plural},
            "name": target.name or subject["metadata"].get("name", ""),
            "namespace": target.namespace,
            "operation": self.operation,
            "userInfo": self.call.user.info(),
            "object": self.object,
            "oldObject": self.old,
            "dryRun": self.call.dry_run,
            "options": None,
        }
        if target.subresource:
            request |= {"subResource": target.subresource, "requestSubResource": target.subresource}
        return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}


class Webhooks:
    """Asks the webhooks that are configured in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def mutate(self, call: Call, operation: str, object: Object, old: Object | None) -> Object:
        """The object after every mutating webhook; the same dict if none changed it. Raises what a webhook
        answers.
        """
        for webhook in list(self._matching(MUTATING, Question(call, operation, object, old))):
            answer = await self._ask(webhook, Question(call, operation, object, old))
            if answer and answer.get("patch"):
                object = _patched(webhook, call, object, answer)
        return object

    async def validate(self, call: Call, operation: str, object: Object | None, old: Object | None) -> None:
        """Raises the first refusal of a validating webhook."""
        question = Question(call, operation, object, old)
        webhooks = list(self._matching(VALIDATING, question))
        if webhooks:
            answers = [self._ask(webhook, question) for webhook in webhooks]
            for result in await asyncio.gather(*answers, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result

    def _matching(self, resource: str, question: Question) -> Iterator[Object]:
        kind, target = question.call.kind, question.call.target
        if kind.group == GROUP:
            return
        for configuration in self._store.objects(resource):
            for webhook in configuration.get("webhooks") or []:
                rules = webhook.get("rules") or []
                if any(
                    rule_matches(rule, kind, target, question.operation) for rule in rules
                ) and self._selects(webhook, question):
                    yield webhook

    def _selects(self, webhook: Object, question: Question) -> bool:
        objects = [o for o in (question.object, question.old) if o]
        chosen = selector_object(webhook.get("objectSelector"))
        if not any(chosen(labels_of(o)) for o in objects):
            return False
        if question.call.kind.resource == "namespaces":
            space = objects[0] if objects else None
        elif question.call.target.namespace:
            entry = self._store.find("namespaces", "", question.call.target.namespace)
            space = entry.object if entry else None
        else:
            return True
        return space is not None and selector_object(webhook.get("namespaceSelector"))(labels_of(space))

    async def _ask(self, webhook: Object, question: Question) -> Object | None:
        """The webhook's response, or None if it failed and may. Raises its refusal, or the failure of a
        call.
        """
        name = webhook["name"]
        if question.call.dry_run and webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise bad_request(f'admission webhook "{name}" does not support dry run')
        try:
            response = await self._post(webhook, question.review())
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            if webhook.get("failurePolicy") == "Ignore":
                log.warning("webhook %s failed and is ignored: %s", name, reason)
                return None
            raise internal(f'failed calling webhook "{name}": failed to call webhook: {reason}') from error
        question.call.warnings += [str(text) for text in response.get("warnings") or []]
        if not response.get("allowed"):
            raise _refusal(name, response.get("status") or {})
        return response

    async def _post(self, webhook: Object, review: Object) -> Object:
        config = webhook["clientConfig"]
        url, headers, host = self._address(config)
        timeout = aiohttp.ClientTimeout(total=webhook.get("timeoutSeconds") or 10)
        if self._session is None:
            self._session = aiohttp.ClientSession()
        async with self._session.post(
            url,
            data=encode(review),
            headers=headers | {"Content-Type": "application/json", "Accept": "application/json"},
            ssl=self._context(config.get("caBundle") or ""),
            server_hostname=host,
            timeout=timeout,
            allow_redirects=False,
        ) as answer:
            data = await answer.content.read(LARGEST_ANSWER)
            if answer.status != 200:
                raise ValueError(
                    f'Post "{url}": status {answer.status}: {data[:200].decode(errors="replace")}'
                )
            return _response(json.loads(data), review["request"]["uid"])

    def _address(self, config: Object) -> tuple[str, dict[str, str], str | None]:
        """(url, headers, name to check in the certificate)."""
        if config.get("url"):
            return config["url"], {}, None
        service = config["service"]
        namespace, name, port = service["namespace"], service["name"], service.get("port", 443)
        address, number = endpoints.pick(self._store, namespace, name, str(port))
        host = f"{name}.{namespace}.svc"
        path = "/" + str(service.get("path") or "/").lstrip("/")
        return f"https://{address}:{number}{path}", {"Host": f"{host}:{port}"}, host

    def _context(self, bundle: str) -> ssl.SSLContext:
        context = self._contexts.get(bundle)
        if context is None:
            data = base64.b64decode(bundle).decode() if bundle else None
            context = ssl.create_default_context(cadata=data) if data else ssl.create_default_context()
            if len(self._contexts) > 64:
                self._contexts.clear()
            self._contexts[bundle] = context
        return context


def _response(review: Any, uid: str) -> Object:
    response = review.get("response") if isinstance(review, dict) else None
    if not isinstance(response, dict):
        raise ValueError("the webhook's answer is no AdmissionReview with a response")
    if response.get("uid") != uid:
        raise ValueError(f"expected response.uid={uid!r}, got {response.get('uid')!r}")
    return response


def _refusal(name: str, status: Object) -> ApiError:
    message = status.get("message") or status.get("reason") or "without explanation"
    code = status.get("code") or 403
    reason = status.get("reason") or (
        "Forbidden" if code == 403 else "Invalid" if code == 422 else "BadRequest"
    )
    text = f'admission webhook "{name}" denied the request: {message}'
    return ApiError(int(code) if 400 <= int(code) < 600 else 400, reason, text, status.get("details"))


def _patched(webhook: Object, call: Call, object: Object, answer: Object) -> Object:
    if answer.get("patchType") != "JSONPatch":
        raise internal(
            f'webhook "{webhook["name"]}": patchType must be JSONPatch, not {answer.get("patchType")!r}'
        )
    try:
        steps = json.loads(base64.b64decode(answer["patch"]))
        new: Object = patch.json_patch(object, steps)
        body.fit(call.kind, new, object)
    except (ValueError, ApiError) as error:
        raise internal(f'webhook "{webhook["name"]}" answered a patch that does not fit: {error}') from error
    return new


def url_problem(url: str) -> str | None:
    """Why a webhook's URL is refused, or None."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return "'https' is the only allowed URL scheme"
    if not parts.hostname:
        return "host must be specified"
    if parts.username or parts.query or parts.fragment:
        return "user information, query parameters and fragments are not permitted in the URL"
    return None
