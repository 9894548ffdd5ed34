"""Rules of roles, their bindings, and webhook configurations.

(kubernetes `pkg/apis/rbac/validation`, `pkg/apis/admissionregistration/validation`.)
"""

import base64
from collections.abc import Iterator

from cluster.embedded import podrules
from cluster.embedded.podrules import items
from cluster.embedded.status import Cause, Object, not_supported, required, wrong
from cluster.embedded.webhooks import url_problem


def role(new: Object, old: Object | None) -> Iterator[Cause]:
    for index, rule in items(new, "rules"):
        at = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{at}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            continue
        for key in ("apiGroups", "resources"):
            if not rule.get(key):
                yield required(f"{at}.{key}", f"resource rules must supply at least one {key[:-1].lower()}")


def binding(new: Object, old: Object | None) -> Iterator[Cause]:
    if old is not None and new.get("roleRef") != old.get("roleRef"):
        yield wrong("roleRef", "{...}", "cannot change roleRef")
    kinds = ("ClusterRole", "Role") if new["kind"] == "RoleBinding" else ("ClusterRole",)
    if (new.get("roleRef") or {}).get("kind") not in kinds:
        yield not_supported("roleRef.kind", (new.get("roleRef") or {}).get("kind", ""), kinds)
    for index, subject in items(new, "subjects"):
        if subject.get("kind") not in ("User", "Group", "ServiceAccount"):
            yield not_supported(
                f"subjects[{index}].kind", subject.get("kind"), ["Group", "ServiceAccount", "User"]
            )
        elif (
            subject["kind"] == "ServiceAccount" and not subject.get("namespace") and kinds == ("ClusterRole",)
        ):
            yield required(f"subjects[{index}].namespace")


def webhooks(new: Object, old: Object | None) -> Iterator[Cause]:
    yield from podrules.unique(
        (f"webhooks[{i}].name", hook.get("name")) for i, hook in items(new, "webhooks")
    )
    for index, hook in items(new, "webhooks"):
        at = f"webhooks[{index}]"
        if hook.get("name", "").count(".") < 2:
            yield wrong(
                f"{at}.name",
                hook.get("name"),
                "should be a domain with at least three segments separated by dots",
            )
        if hook.get("matchConditions"):
            why = "Forbidden: CEL is not evaluated by the embedded cluster; use namespaceSelector and objectSelector"
            yield Cause("FieldValueForbidden", why, f"{at}.matchConditions")
        if hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            yield not_supported(f"{at}.sideEffects", hook.get("sideEffects", ""), ["None", "NoneOnDryRun"])
        if "v1" not in (hook.get("admissionReviewVersions") or []):
            yield wrong(
                f"{at}.admissionReviewVersions", hook.get("admissionReviewVersions"), "must include v1"
            )
        yield from _client(hook.get("clientConfig") or {}, f"{at}.clientConfig")


def _client(config: Object, path: str) -> Iterator[Cause]:
    if bool(config.get("url")) == bool(config.get("service")):
        yield required(path, "exactly one of url or service is required")
    elif config.get("url") and (problem := url_problem(config["url"])):
        yield wrong(f"{path}.url", config["url"], problem)
    if config.get("caBundle"):
        try:
            good = b"BEGIN CERTIFICATE" in base64.b64decode(config["caBundle"], validate=True)
        except ValueError:
            good = False
        if not good:
            yield wrong(
                f"{path}.caBundle", "<bytes>", "unable to load root certificates: no PEM certificate in it"
            )
