"""Rules that no schema tells, kind by kind: the field and the sentence of each refusal."""

import base64
from typing import Any

import pytest

from cluster.embedded import defaults, rules
from cluster.embedded.kinds import Registry
from cluster.embedded.status import ApiError

Object = dict[str, Any]
KINDS = Registry()
POD: Object = {"containers": [{"name": "a", "image": "a:1"}]}


def causes(group: str, plural: str, new: Object, old: Object | None = None) -> dict[str, str]:
    """Field -> message of what is wrong with an object."""
    kind = KINDS.get(group, "v1", plural)
    for object in (new, old):
        if object is not None:
            object.setdefault("metadata", {"name": "x", "namespace": "n"})
            object.setdefault("kind", kind.kind)
            defaults.apply_defaults(kind.resource, object)
    try:
        rules.check(kind, new, old)
    except ApiError as error:
        assert error.code == 422
        return {cause["field"]: cause["message"] for cause in error.details["causes"]}
    return {}


def container(**more: Any) -> Object:
    return {"containers": [{"name": "a", "image": "a:1"} | more]}


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"containers": []}, "spec.containers", "Required value"),
        ({"containers": [{"name": "a"}]}, "spec.containers[0].image", "Required value"),
        ({"containers": [{"name": "A_", "image": "x"}]}, "spec.containers[0].name", "RFC 1123 label"),
        (POD | {"restartPolicy": "Sometimes"}, "spec.restartPolicy", 'supported values: "Always"'),
        (container(imagePullPolicy="Maybe"), "spec.containers[0].imagePullPolicy", "Unsupported value"),
        (
            container(ports=[{"containerPort": 0}]),
            "spec.containers[0].ports[0].containerPort",
            "between 1 and 65535",
        ),
        (
            container(ports=[{"containerPort": 1, "name": "TOO_LONG_AND_UPPER"}]),
            "spec.containers[0].ports[0].name",
            "hyphens",
        ),
        (
            container(env=[{"name": "1=2"}]),
            "spec.containers[0].env[0].name",
            "a valid environment variable name",
        ),
        (container(env=[{"value": "x"}]), "spec.containers[0].env[0].name", "Required value"),
        (
            container(env=[{"name": "x", "value": "y", "valueFrom": {}}]),
            "spec.containers[0].env[0].valueFrom",
            "may not be specified when `value` is not empty",
        ),
        (
            container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
            "spec.containers[0].volumeMounts[0].name",
            "Not found",
        ),
        (container(readinessProbe={}), "spec.containers[0].readinessProbe", "must specify a handler type"),
        (
            container(livenessProbe={"exec": {}, "tcpSocket": {"port": 1}}),
            "spec.containers[0].livenessProbe.tcpSocket",
            "may not specify more than 1 handler type",
        ),
        (
            container(resources={"limits": {"cpu": "a lot"}}),
            "spec.containers[0].resources.limits[cpu]",
            "quantities must match",
        ),
        (
            POD | {"volumes": [{"name": "v", "emptyDir": {}, "secret": {}}]},
            "spec.volumes[0].secret",
            "more than 1 volume type",
        ),
        (POD | {"volumes": [{"name": "v"}, {"name": "v"}]}, "spec.volumes[1].name", "Duplicate value"),
        (
            POD | {"terminationGracePeriodSeconds": -1},
            "spec.terminationGracePeriodSeconds",
            "must be at least 0",
        ),
    ],
)
def test_pods(spec: Object, field: str, says: str) -> None:
    assert says in causes("", "pods", {"spec": spec})[field]


def test_a_good_pod_and_its_image_may_change() -> None:
    assert causes("", "pods", {"spec": container(image="b:2")}, {"spec": container()}) == {}
    assert (
        "pod updates may not change"
        in causes("", "pods", {"spec": container(command=["x"])}, {"spec": POD})["spec"]
    )


def deployment(**spec: Any) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    return {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template} | spec}


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"replicas": -1}, "spec.replicas", "greater than or equal to 0"),
        ({"selector": {}}, "spec.selector", "empty selector"),
        (
            {"selector": {"matchLabels": {"a": "c"}}},
            "spec.template.metadata.labels",
            "does not match template `labels`",
        ),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": "x"}}},
            "spec.strategy.rollingUpdate.maxSurge",
            "percent string",
        ),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}},
            "spec.strategy.rollingUpdate.maxUnavailable",
            "may not be 0 when `maxSurge` is 0",
        ),
        ({"strategy": {"type": "Fast"}}, "spec.strategy.type", "Unsupported value"),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}},
            "spec.strategy.rollingUpdate",
            "Forbidden",
        ),
        (
            {"template": {"metadata": {"labels": {"a": "b"}}, "spec": POD | {"restartPolicy": "Never"}}},
            "spec.template.spec.restartPolicy",
            'supported values: "Always"',
        ),
    ],
)
def test_deployments(spec: Object, field: str, says: str) -> None:
    assert says in causes("apps", "deployments", deployment(**spec))[field]


def test_a_selector_is_for_ever() -> None:
    changed = deployment(selector={"matchLabels": {"a": "b", "c": "d"}})
    changed["spec"]["template"]["metadata"]["labels"]["c"] = "d"
    assert "immutable" in causes("apps", "deployments", changed, deployment())["spec.selector"]


def test_jobs() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    assert "spec.template.spec.restartPolicy" in causes("batch", "jobs", {"spec": {"template": template}})
    good = {"template": {"spec": template["spec"] | {"restartPolicy": "Never"}}}
    assert causes("batch", "jobs", {"spec": good}) == {}
    assert (
        "immutable"
        in causes("batch", "jobs", {"spec": good | {"completions": 3}}, {"spec": good})["spec.completions"]
    )


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({}, "spec.ports", "Required value"),
        ({"type": "Magic", "ports": [{"port": 1}]}, "spec.type", "Unsupported value"),
        ({"type": "ExternalName"}, "spec.externalName", "Required value"),
        ({"ports": [{"port": 1}, {"port": 2, "name": "b"}]}, "spec.ports[0].name", "Required value"),
        (
            {"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]},
            "spec.ports[1].name",
            "Duplicate value",
        ),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}, "spec.ports[1]", "Duplicate value"),
        ({"ports": [{"port": 1, "targetPort": 70000}]}, "spec.ports[0].targetPort", "between 1 and 65535"),
        ({"ports": [{"name": "x"}]}, "spec.ports[0].port", "Required value"),
    ],
)
def test_services(spec: Object, field: str, says: str) -> None:
    assert says in causes("", "services", {"spec": spec})[field]


def test_config_and_secrets() -> None:
    assert "data[a/b]" in causes("", "configmaps", {"data": {"a/b": ""}})
    assert "Too long" in causes("", "configmaps", {"data": {"a": "x" * (1024 * 1024 + 1)}})[""]
    assert "illegal base64" in causes("", "secrets", {"data": {"a": "*"}})["data[a]"]
    sealed = {"data": {"a": "1"}, "immutable": True}
    assert "data" in causes("", "configmaps", {"data": {"a": "2"}, "immutable": True}, sealed)
    assert "type" in causes("", "secrets", {"type": "b"}, {"type": "a"})


RBAC = "rbac.authorization.k8s.io"


def test_roles_and_bindings() -> None:
    found = causes(RBAC, "clusterroles", {"rules": [{"resources": ["x"]}]})
    assert set(found) == {"rules[0].verbs", "rules[0].apiGroups"}
    found = causes(
        RBAC,
        "clusterrolebindings",
        {"roleRef": {"kind": "Role", "name": "x"}, "subjects": [{"kind": "Cat", "name": "x"}]},
    )
    assert set(found) == {"roleRef.kind", "subjects[0].kind"}
    account = {
        "roleRef": {"kind": "ClusterRole", "name": "x"},
        "subjects": [{"kind": "ServiceAccount", "name": "x"}],
    }
    assert set(causes(RBAC, "clusterrolebindings", account)) == {"subjects[0].namespace"}


def hook(**more: Any) -> Object:
    client = {"service": {"name": "s", "namespace": "n"}}
    return {
        "name": "a.b.c",
        "clientConfig": client,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    } | more


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": "short"}, "webhooks[0].name"),
        ({"sideEffects": "Some"}, "webhooks[0].sideEffects"),
        ({"admissionReviewVersions": ["v1beta1"]}, "webhooks[0].admissionReviewVersions"),
        ({"matchConditions": [{"name": "x", "expression": "true"}]}, "webhooks[0].matchConditions"),
        ({"clientConfig": {}}, "webhooks[0].clientConfig"),
        ({"clientConfig": {"url": "http://x"}}, "webhooks[0].clientConfig.url"),
        ({"clientConfig": {"url": "https://u:p@x"}}, "webhooks[0].clientConfig.url"),
        (
            {"clientConfig": {"url": "https://x", "caBundle": base64.b64encode(b"x").decode()}},
            "webhooks[0].clientConfig.caBundle",
        ),
    ],
)
def test_webhook_configurations(more: Object, field: str) -> None:
    group = "admissionregistration.k8s.io"
    assert set(causes(group, "mutatingwebhookconfigurations", {"webhooks": [hook(**more)]})) == {field}
    assert causes(group, "validatingwebhookconfigurations", {"webhooks": [hook()]}) == {}


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"name": "-x"}, "metadata.name"),
        ({"name": "x" * 254}, "metadata.name"),
        ({"name": "x", "labels": {"a b": "c"}}, "metadata.labels"),
        ({"name": "x", "labels": {"UPPER.io/a": "c"}}, "metadata.labels"),
        ({"name": "x", "labels": {"a": "x" * 64}}, "metadata.labels"),
        ({"name": "x", "annotations": {"a/b/c": ""}}, "metadata.annotations"),
    ],
)
def test_names_and_labels(metadata: Object, field: str) -> None:
    assert set(causes("", "configmaps", {"metadata": metadata})) == {field}
