"""Is the object allowed to look like this? Validation of the built-in kinds, and of custom ones against their
schema.

Each check yields causes with the field's path, in Kubernetes' words, all at once. That required fields are
there is checked from the schemas for every kind; the rules here are those that no schema tells. Pods have
their own file, `podrules.py`. (kubernetes `pkg/apis/*/validation`.)
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cluster.embedded import crds, podrules, structural
from cluster.embedded.kinds import Kind
from cluster.embedded.podrules import LABEL, LABEL_RULE, PROTOCOLS, items
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
from cluster.embedded.webhooks import url_problem

SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
LABEL_NAME = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
SERVICE_NAME = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
PATH_NAME = re.compile(r"^(?!\.\.?$)[^/%]+$")
DATA_KEY = re.compile(r"^(?!\.\.?$)[-._a-zA-Z0-9]{1,253}$")

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
SERVICE_NAME_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name', or 'abc-123')"
)
LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')"
)
LARGEST_DATA = 1024 * 1024
SELECTOR_RULE = "`selector` does not match template `labels`"


def check(kind: Kind, new: Object, old: Object | None, subresource: str = "") -> None:
    """Raises Invalid (422) with every cause found, for a new object or the update of `old`."""
    found = list(metadata(kind, new["metadata"]))
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


def metadata(kind: Kind, meta: Object) -> Iterator[Cause]:
    """Names, labels and annotations."""
    name = meta.get("name", "")
    if kind.group == "rbac.authorization.k8s.io":
        if not PATH_NAME.match(name):
            yield wrong("metadata.name", name, "may not be '.' or '..' and may not contain '/' or '%'")
    elif kind.resource == "services":
        if not SERVICE_NAME.match(name):
            yield wrong("metadata.name", name, SERVICE_NAME_RULE)
    elif kind.resource == "namespaces":
        if not LABEL.match(name):
            yield wrong("metadata.name", name, LABEL_RULE)
    elif not SUBDOMAIN.match(name) or len(name) > 253:
        yield wrong("metadata.name", name, SUBDOMAIN_RULE)
    yield from labels(meta.get("labels"), "metadata.labels")
    for key in meta.get("annotations") or {}:
        yield from _qualified(key.lower(), "metadata.annotations")


def labels(values: Any, path: str) -> Iterator[Cause]:
    for key, value in (values or {}).items():
        yield from _qualified(key, path)
        if not LABEL_VALUE.match(value):
            yield wrong(path, value, LABEL_VALUE_RULE)


def _qualified(key: str, path: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if not LABEL_NAME.match(name) or (slash and not SUBDOMAIN.match(prefix)):
        why = "must be alphanumeric characters, '-', '_' or '.', with an optional DNS subdomain as prefix"
        yield wrong(path, key, why)


# Workloads


def pod(new: Object, old: Object | None) -> Iterator[Cause]:
    if old is not None:
        yield from podrules.fixed(new["spec"], old["spec"])
    yield from podrules.spec(new["spec"], "spec")


def _template(object: Object, restarts: tuple[str, ...]) -> Iterator[Cause]:
    template = (object.get("spec") or {}).get("template") or {}
    yield from labels((template.get("metadata") or {}).get("labels"), "spec.template.labels")
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


# Services and their endpoints


def service(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    kind, ports = spec.get("type"), spec.get("ports") or []
    kinds = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
    if kind not in kinds:
        yield not_supported("spec.type", kind, kinds)
    if kind == "ExternalName" and not spec.get("externalName"):
        yield required("spec.externalName")
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    yield from labels(spec.get("selector"), "spec.selector")
    for index, port in items(spec, "ports"):
        yield from _service_port(port, f"spec.ports[{index}]", len(ports) > 1)
    named = items(spec, "ports")
    yield from podrules.unique((f"spec.ports[{i}].name", p["name"]) for i, p in named if p.get("name"))
    pairs = ((f"spec.ports[{i}]", (p.get("port"), p.get("protocol"))) for i, p in items(spec, "ports"))
    yield from podrules.unique(pairs)
    if old is not None and "ExternalName" not in (kind, old["spec"].get("type")):
        yield from _same("spec.clusterIPs[0]", spec.get("clusterIP"), old["spec"].get("clusterIP"))


def _same(path: str, new: object, old: object) -> Iterator[Cause]:
    if new != old:
        yield immutable(path, new)


def _service_port(port: Object, path: str, several: bool) -> Iterator[Cause]:
    if several and not port.get("name"):
        yield required(f"{path}.name")
    if port.get("name") and not LABEL.match(port["name"]):
        yield wrong(f"{path}.name", port["name"], LABEL_RULE)
    yield from podrules.port(port.get("port"), f"{path}.port")
    yield from podrules.port_reference(port.get("targetPort"), f"{path}.targetPort")
    if port.get("protocol") not in PROTOCOLS:
        yield not_supported(f"{path}.protocol", port.get("protocol"), PROTOCOLS)


def endpointslice(new: Object, old: Object | None) -> Iterator[Cause]:
    kinds = ("FQDN", "IPv4", "IPv6")
    if new.get("addressType") not in kinds:
        yield not_supported("addressType", new.get("addressType", ""), kinds)
    if old is not None and new.get("addressType") != old.get("addressType"):
        yield immutable("addressType", new.get("addressType"))
    for index, port in items(new, "ports"):
        yield from podrules.port(port.get("port"), f"ports[{index}].port")


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


Rule = Callable[[Object, Object | None], Iterable[Cause]]
BY_RESOURCE: dict[str, Rule] = {
    "pods": pod,
    "deployments.apps": workload,
    "replicasets.apps": workload,
    "jobs.batch": job,
    "poddisruptionbudgets.policy": budget,
    "services": service,
    "endpointslices.discovery.k8s.io": endpointslice,
    "configmaps": configmap,
    "secrets": secret,
    "leases.coordination.k8s.io": lease,
    "roles.rbac.authorization.k8s.io": role,
    "clusterroles.rbac.authorization.k8s.io": role,
    "rolebindings.rbac.authorization.k8s.io": binding,
    "clusterrolebindings.rbac.authorization.k8s.io": binding,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
    crds.RESOURCE: lambda new, old: crds.check(new),
}
