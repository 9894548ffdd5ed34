"""What Kubernetes fills in when an object leaves it out, for the kinds the server serves.

Each function takes a fresh object and completes it in place. (kubernetes `pkg/apis/*/v1/defaults.go`.)
"""

import base64
from collections.abc import Callable, Iterable
from typing import Any

from cluster.embedded.status import Object

ROLLING = {"maxUnavailable": "25%", "maxSurge": "25%"}


def _set(object: Object, **values: Any) -> None:
    for key, value in values.items():
        if object.get(key) is None:
            object[key] = value


def _dicts(items: Any) -> Iterable[Object]:
    return (item for item in items or [] if isinstance(item, dict))


def pod_spec(spec: Object) -> None:
    _set(
        spec,
        restartPolicy="Always",
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        terminationGracePeriodSeconds=30,
        securityContext={},
    )
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    for container in [*_dicts(spec.get("initContainers")), *_dicts(spec.get("containers"))]:
        _container(container)
    for volume in _dicts(spec.get("volumes")):
        _volume(volume)


def _container(container: Object) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    always = tag in ("", "latest") and "@" not in image
    _set(
        container,
        imagePullPolicy="Always" if always else "IfNotPresent",
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    for port in _dicts(container.get("ports")):
        _set(port, protocol="TCP")
    for env in _dicts(container.get("env")):
        source = (env.get("valueFrom") or {}).get("fieldRef")
        if source:
            _set(source, apiVersion="v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name):
            _probe(container[name])
    for quantities in (container["resources"].get("limits"), container["resources"].get("requests")):
        for key, value in (quantities or {}).items():
            quantities[key] = str(value)
    limits = container["resources"].get("limits")
    if limits:
        container["resources"]["requests"] = limits | (container["resources"].get("requests") or {})


def _probe(probe: Object) -> None:
    _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    if probe.get("httpGet"):
        _set(probe["httpGet"], scheme="HTTP", path="/")
    if probe.get("grpc"):
        _set(probe["grpc"], service="")


def _volume(volume: Object) -> None:
    for name in ("configMap", "secret", "projected", "downwardAPI"):
        if volume.get(name) is not None:
            _set(volume[name], defaultMode=420)
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    for source in _dicts((volume.get("projected") or {}).get("sources")):
        if source.get("serviceAccountToken"):
            _set(source["serviceAccountToken"], expirationSeconds=3600)
        for item in _dicts((source.get("downwardAPI") or {}).get("items")):
            if item.get("fieldRef"):
                _set(item["fieldRef"], apiVersion="v1")
    for item in _dicts((volume.get("downwardAPI") or {}).get("items")):
        if item.get("fieldRef"):
            _set(item["fieldRef"], apiVersion="v1")


def pod(object: Object) -> None:
    if object.get("spec"):
        pod_spec(object["spec"])
        _set(object["spec"], enableServiceLinks=True)
    _set(object, status={})
    _set(object["status"], phase="Pending")
    if not object["status"].get("qosClass") and object.get("spec"):
        object["status"]["qosClass"] = qos(object["spec"])


def qos(spec: Object) -> str:
    """BestEffort, Burstable or Guaranteed, by requests and limits."""
    resources = [c.get("resources") or {} for c in _dicts(spec.get("containers"))]
    if not any(r.get("limits") or r.get("requests") for r in resources):
        return "BestEffort"
    wanted = {"cpu", "memory"}
    full = all(wanted <= set(r.get("limits") or {}) and r["limits"] == r.get("requests") for r in resources)
    return "Guaranteed" if full else "Burstable"


def _template(spec: Object) -> None:
    template = spec.get("template")
    if isinstance(template, dict):
        metadata = template.setdefault("metadata", {})
        metadata.pop("creationTimestamp", None)
        if template.get("spec"):
            pod_spec(template["spec"])


def deployment(object: Object) -> None:
    spec = object.get("spec")
    if spec is None:
        return
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    _set(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        _set(spec["strategy"], rollingUpdate={})
        _set(spec["strategy"]["rollingUpdate"], **ROLLING)
    _template(spec)
    _set(object, status={})


def replicaset(object: Object) -> None:
    if object.get("spec") is not None:
        _set(object["spec"], replicas=1)
        _template(object["spec"])
        template_labels = ((object["spec"].get("template") or {}).get("metadata") or {}).get("labels")
        if template_labels:
            _set(object["spec"], selector={"matchLabels": dict(template_labels)})
    _set(object, status={"replicas": 0})


def job(object: Object) -> None:
    spec = object.get("spec")
    if spec is None:
        return
    _set(
        spec,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy="TerminatingOrFailed",
    )
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    _set(spec, parallelism=1, manualSelector=False)
    _template(spec)
    _set(object, status={})


def service(object: Object) -> None:
    spec = object.setdefault("spec", {})
    _set(spec, type="ClusterIP", sessionAffinity="None", internalTrafficPolicy="Cluster")
    for port in _dicts(spec.get("ports")):
        _set(port, protocol="TCP")
        if port.get("targetPort") is None and "port" in port:
            port["targetPort"] = port["port"]
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _set(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    if spec["type"] != "ExternalName":
        _set(spec, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    _set(object, status={"loadBalancer": {}})


def namespace(object: Object) -> None:
    labels = object["metadata"].setdefault("labels", {})
    if object["metadata"].get("name"):
        labels["kubernetes.io/metadata.name"] = object["metadata"]["name"]
    if "deletionTimestamp" not in object["metadata"]:
        _set(object, spec={"finalizers": ["kubernetes"]})
        _set(object, status={"phase": "Active"})


def secret(object: Object) -> None:
    for key, text in (object.pop("stringData", None) or {}).items():
        object.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()
    _set(object, type="Opaque")


def endpointslice(object: Object) -> None:
    for port in _dicts(object.get("ports")):
        _set(port, name="", protocol="TCP")


def webhooks(object: Object) -> None:
    mutating = object.get("kind") == "MutatingWebhookConfiguration"
    for webhook in _dicts(object.get("webhooks")):
        _set(
            webhook,
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            namespaceSelector={},
            objectSelector={},
            timeoutSeconds=10,
        )
        if mutating:
            _set(webhook, reinvocationPolicy="Never")
        for rule in _dicts(webhook.get("rules")):
            _set(rule, scope="*")
        reference = (webhook.get("clientConfig") or {}).get("service")
        if reference:
            _set(reference, port=443)


def definition(object: Object) -> None:
    spec = object.get("spec") or {}
    names = spec.get("names") or {}
    if names.get("kind"):
        _set(names, singular=str(names["kind"]).lower(), listKind=f"{names['kind']}List")
    _set(spec, conversion={"strategy": "None"})


def role(object: Object) -> None:
    if "aggregationRule" not in object:
        _set(object, rules=[])


def binding(object: Object) -> None:
    for subject in _dicts(object.get("subjects")):
        group = "" if subject.get("kind") == "ServiceAccount" else "rbac.authorization.k8s.io"
        if group:
            _set(subject, apiGroup=group)
    if isinstance(object.get("roleRef"), dict):
        _set(object["roleRef"], apiGroup="rbac.authorization.k8s.io")


def node(object: Object) -> None:
    _set(object, spec={}, status={})


BY_RESOURCE: dict[str, Callable[[Object], None]] = {
    "pods": pod,
    "deployments.apps": deployment,
    "replicasets.apps": replicaset,
    "jobs.batch": job,
    "services": service,
    "namespaces": namespace,
    "secrets": secret,
    "nodes": node,
    "endpointslices.discovery.k8s.io": endpointslice,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
    "customresourcedefinitions.apiextensions.k8s.io": definition,
    "roles.rbac.authorization.k8s.io": role,
    "clusterroles.rbac.authorization.k8s.io": role,
    "rolebindings.rbac.authorization.k8s.io": binding,
    "clusterrolebindings.rbac.authorization.k8s.io": binding,
}


def apply_defaults(resource: str, object: Object) -> None:
    """Complete an object of a built-in kind in place."""
    if resource in BY_RESOURCE:
        BY_RESOURCE[resource](object)
