"""Is the object allowed to look like this? Validation of the built-in kinds, and of custom ones against their
schema.

Each check yields causes with the field's path, in Kubernetes' words, all at once. That required fields are
there is checked from the schemas for every kind; the rules here are those that no schema tells. Pods have
their own file, `podrules.py`. (kubernetes `pkg/apis/*/validation`.)
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator

from cluster.embedded import accessrules, crds, metarules, podrules, servicerules, structural
from cluster.embedded.kinds import Kind
from cluster.embedded.selectors import selector_object
from cluster.embedded.status import (
    ApiError,
    Cause,
    Object,
    immutable,
    invalid,
    not_supported,
    required,
    wrong,
)

DATA_KEY = re.compile(r"^(?!\.\.?$)[-._a-zA-Z0-9]{1,253}$")

LARGEST_DATA = 1024 * 1024
SELECTOR_RULE = "`selector` does not match template `labels`"


def check(kind: Kind, new: Object, old: Object | None, subresource: str = "") -> None:
    """Raises Invalid (422) with every cause found, for a new object or the update of `old`."""
    found = list(metarules.metadata(kind, new["metadata"]))
    if kind.custom:
        found += structural.causes(kind.body, new)
    elif not subresource and not (old is not None and _same_but_status(new, old)):
        stated = {key: value for key, value in new.items() if key != "status"}
        found += structural.missing(kind.body, stated)
        own = BY_RESOURCE.get(kind.resource)
        try:
            found += own(new, old) if own else []
        except (TypeError, AttributeError, KeyError):
            if not found:
                raise
    if found:
        raise invalid(kind.kind, kind.group, new["metadata"].get("name", ""), dict.fromkeys(found))


def _same_but_status(new: Object, old: Object) -> bool:
    """Is everything as it was but status and metadata?"""
    aside = ("metadata", "status")
    keys = {key for key in (*new, *old) if key not in aside}
    return all(new.get(key) == old.get(key) for key in keys)


# Workloads


def pod(new: Object, old: Object | None) -> Iterator[Cause]:
    if old is not None:
        yield from podrules.fixed(new["spec"], old["spec"])
    yield from podrules.spec(new["spec"], "spec")


def _template(object: Object, restarts: tuple[str, ...]) -> Iterator[Cause]:
    template = (object.get("spec") or {}).get("template") or {}
    yield from metarules.labels((template.get("metadata") or {}).get("labels"), "spec.template.labels")
    if template.get("spec") is None:
        yield required("spec.template.spec")
        return
    yield from podrules.spec(template["spec"], "spec.template.spec", restarts)


def workload(new: Object, old: Object | None) -> Iterator[Cause]:
    """Deployments and ReplicaSets."""
    spec = new.get("spec") or {}
    if spec.get("replicas", 0) < 0:
        yield wrong("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    selector = spec.get("selector") or {}
    if "selector" in spec and not (selector.get("matchLabels") or selector.get("matchExpressions")):
        yield wrong("spec.selector", "{}", "empty selector is invalid for deployment")
    chosen = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if selector and not _matches(selector, chosen):
        yield wrong("spec.template.metadata.labels", chosen, SELECTOR_RULE)
    if old is not None and selector != old["spec"].get("selector"):
        yield immutable("spec.selector", selector)
    strategy = (spec.get("strategy") or {}).get("type", "RollingUpdate")
    if strategy not in ("Recreate", "RollingUpdate"):
        yield not_supported("spec.strategy.type", strategy, ["Recreate", "RollingUpdate"])
    if strategy == "Recreate" and spec["strategy"].get("rollingUpdate"):
        why = "Forbidden: may not be specified when strategy `type` is 'Recreate'"
        yield Cause("FieldValueForbidden", why, "spec.strategy.rollingUpdate")
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    for key in ("maxSurge", "maxUnavailable"):
        yield from podrules.share(rolling.get(key), f"spec.strategy.rollingUpdate.{key}")
    if rolling and all(rolling.get(key) in (0, "0%") for key in ("maxSurge", "maxUnavailable")):
        yield wrong("spec.strategy.rollingUpdate.maxUnavailable", 0, "may not be 0 when `maxSurge` is 0")
    yield from _template(new, ("Always",))


def _matches(selector: Object, chosen: Object) -> bool:
    try:
        return selector_object(selector)(chosen)
    except ApiError:
        return False


def job(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new.get("spec") or {}
    for key in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds"):
        if (spec.get(key) or 0) < 0:
            yield wrong(f"spec.{key}", spec[key], "must be greater than or equal to 0")
    if old is not None:
        for key in ("selector", "template", "completions", "completionMode"):
            if spec.get(key) != old["spec"].get(key):
                yield immutable(f"spec.{key}", "{...}")
    yield from _template(new, ("OnFailure", "Never"))


def budget(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield wrong("spec", "{...}", "minAvailable and maxUnavailable cannot be both set")
    for key in ("minAvailable", "maxUnavailable"):
        yield from podrules.share(spec.get(key), f"spec.{key}")


# Configuration and identity


def _data_keys(object: Object, *fields: str) -> Iterator[Cause]:
    for field in fields:
        for key in object.get(field) or {}:
            if not DATA_KEY.match(key):
                why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                yield wrong(f"{field}[{key}]", key, why)
    size = sum(len(v) for field in fields for v in (object.get(field) or {}).values())
    if size > LARGEST_DATA:
        yield Cause("FieldValueTooLong", f"Too long: may not be more than {LARGEST_DATA} bytes", "")


def _sealed(new: Object, old: Object | None) -> Iterator[Cause]:
    if old is None or not old.get("immutable"):
        return
    if not new.get("immutable") or any(new.get(key) != old.get(key) for key in ("data", "binaryData")):
        why = "Forbidden: field is immutable when `immutable` is set"
        yield Cause("FieldValueForbidden", why, "data")


def configmap(new: Object, old: Object | None) -> Iterator[Cause]:
    yield from _data_keys(new, "data", "binaryData")
    yield from _sealed(new, old)


def secret(new: Object, old: Object | None) -> Iterator[Cause]:
    yield from _data_keys(new, "data")
    for key, value in (new.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except ValueError:
            yield wrong(f"data[{key}]", "<redacted>", "illegal base64 data")
    if old is not None and new.get("type") != old.get("type"):
        yield immutable("type", new.get("type"))
    yield from _sealed(new, old)


def lease(new: Object, old: Object | None) -> Iterator[Cause]:
    seconds = (new.get("spec") or {}).get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        yield wrong("spec.leaseDurationSeconds", seconds, "must be greater than 0")


Rule = Callable[[Object, Object | None], Iterable[Cause]]
BY_RESOURCE: dict[str, Rule] = {
    "pods": pod,
    "deployments.apps": workload,
    "replicasets.apps": workload,
    "jobs.batch": job,
    "poddisruptionbudgets.policy": budget,
    "services": servicerules.service,
    "endpointslices.discovery.k8s.io": servicerules.endpointslice,
    "configmaps": configmap,
    "secrets": secret,
    "leases.coordination.k8s.io": lease,
    "roles.rbac.authorization.k8s.io": accessrules.role,
    "clusterroles.rbac.authorization.k8s.io": accessrules.role,
    "rolebindings.rbac.authorization.k8s.io": accessrules.binding,
    "clusterrolebindings.rbac.authorization.k8s.io": accessrules.binding,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": accessrules.webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": accessrules.webhooks,
    crds.RESOURCE: lambda new, old: crds.check(new),
}
