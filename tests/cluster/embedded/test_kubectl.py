"""The real kubectl, with its defaults (server-side tables, strict validation), against a running server."""

import json
from typing import Any

import pytest

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "lab:1", ports: [{containerPort: 80}]}
      - {name: side, image: "lab:1"}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  type: NodePort
  ports: [{port: 80, name: http}]
"""


def get(api: Any, namespace: str, *words: str) -> Any:
    return json.loads(api.kubectl("-n", namespace, "get", *words, "-o", "json"))


def test_apply_twice_change_delete(api: Any, namespace: str) -> None:
    where = ("-n", namespace)
    assert (
        api.kubectl(*where, "apply", "-f", "-", stdin=WEB)
        == "deployment.apps/web created\nservice/web created\n"
    )
    assert api.kubectl(*where, "apply", "-f", "-", stdin=WEB).count("unchanged") == 2
    api.kubectl(
        *where,
        "apply",
        "-f",
        "-",
        stdin=WEB.replace('{name: side, image: "lab:1"}', "{name: web2, image: x}"),
    )
    made = get(api, namespace, "deploy", "web")
    assert [c["name"] for c in made["spec"]["template"]["spec"]["containers"]] == ["web", "web2"]
    assert made["metadata"]["generation"] == 2
    assert made["spec"]["template"]["spec"]["containers"][0]["ports"] == [
        {"containerPort": 80, "protocol": "TCP"}
    ]
    assert "deleted" in api.kubectl(*where, "delete", "-f", "-", stdin=WEB)
    assert get(api, namespace, "deploy,svc")["items"] == []


def test_tables(api: Any, namespace: str) -> None:
    api.kubectl("-n", namespace, "apply", "-f", "-", stdin=WEB)
    head, row = api.kubectl("-n", namespace, "get", "deploy").splitlines()
    assert head.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert row.split()[:4] == ["web", "0/2", "0", "0"]
    head, row = api.kubectl("-n", namespace, "get", "svc", "-o", "wide").splitlines()
    name, kind, address, external, ports, _, selector = row.split()
    assert (name, kind, external, selector) == ("web", "NodePort", "<none>", "app=web")
    assert address.startswith("127.") and ports.startswith("80:3")
    assert api.kubectl("get", "ns", namespace, "--no-headers").split()[:2] == [namespace, "Active"]


def test_server_side_apply_and_conflict(api: Any, namespace: str) -> None:
    where = ("-n", namespace)
    api.kubectl(*where, "apply", "--server-side", "-f", "-", stdin=WEB)
    api.kubectl(*where, "scale", "deploy/web", "--replicas=5")
    refused = api.kubectl(*where, "apply", "--server-side", "-f", "-", stdin=WEB, ok=False)
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in refused
    api.kubectl(*where, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=WEB)
    assert get(api, namespace, "deploy", "web")["spec"]["replicas"] == 2
    less = WEB.replace("replicas: 2", "")
    api.kubectl(*where, "apply", "--server-side", "-f", "-", stdin=less)
    assert get(api, namespace, "deploy", "web")["spec"]["replicas"] == 1


def test_client_side_apply_becomes_server_side(api: Any, namespace: str) -> None:
    """kubectl hands its own ownership over by rewriting managedFields; what it then leaves out goes."""
    where = ("-n", namespace)
    document = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1', b: '2'}\n"
    api.kubectl(*where, "apply", "-f", "-", stdin=document)
    api.kubectl(*where, "apply", "--server-side", "-f", "-", stdin=document)
    api.kubectl(*where, "apply", "--server-side", "-f", "-", stdin=document.replace(", b: '2'", ""))
    assert get(api, namespace, "cm", "c")["data"] == {"a": "1"}


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        (
            "replicas: 2",
            "replicas: two",
            "cannot unmarshal string into Go struct field Deployment.spec.replicas",
        ),
        (
            "containerPort: 80",
            "contanerPort: 80",
            'unknown field "spec.template.spec.containers[0].ports[0].contanerPort"',
        ),
        (
            "{app: web}}\n  template",
            "{app: other}}\n  template",
            "`selector` does not match template `labels`",
        ),
        (
            "containerPort: 80",
            "containerPort: 80000",
            "containers[0].ports[0].containerPort: Invalid value: 80000",
        ),
        ("name: side", "name: web", 'spec.template.spec.containers[1].name: Duplicate value: "web"'),
        ("kind: Deployment", "kind: Deploiment", 'no matches for kind "Deploiment" in version "apps/v1"'),
        (
            "{name: web}\nspec:\n  replicas",
            "{name: Web}\nspec:\n  replicas",
            "a lowercase RFC 1123 subdomain must consist of",
        ),
    ],
)
def test_bad_input(api: Any, namespace: str, was: str, becomes: str, says: str) -> None:
    document = WEB.partition("---")[0]
    assert was in document
    assert says in api.kubectl(
        "-n", namespace, "apply", "-f", "-", stdin=document.replace(was, becomes), ok=False
    )
    assert get(api, namespace, "deploy")["items"] == []


def test_explain(api: Any) -> None:
    text = api.kubectl("explain", "deployment.spec.template.spec.containers.ports")
    assert "FIELD: ports <[]ContainerPort>" in text and "containerPort\t<integer> -required-" in text
    assert "io.k8s" not in text


def test_describe_patch_label_wait(api: Any, namespace: str) -> None:
    where = ("-n", namespace)
    api.kubectl(*where, "apply", "-f", "-", stdin=WEB)
    assert "StrategyType:           RollingUpdate" in api.kubectl(*where, "describe", "deploy", "web")
    api.kubectl(*where, "set", "image", "deploy/web", "web=lab:2")
    api.kubectl(*where, "label", "deploy/web", "team=blue")
    api.kubectl(
        *where,
        "patch",
        "deploy",
        "web",
        "--type",
        "json",
        "-p",
        '[{"op":"remove","path":"/metadata/labels"}]',
    )
    made = get(api, namespace, "deploy", "web")
    assert "labels" not in made["metadata"]
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "lab:2"
    assert api.kubectl(*where, "get", "deploy", "-l", "team=blue", "-o", "name") == ""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web/status"
    status = {
        "observedGeneration": 2,
        "replicas": 2,
        "updatedReplicas": 2,
        "availableReplicas": 2,
        "readyReplicas": 2,
    }
    status |= {"conditions": [{"type": "Available", "status": "True"}]}
    api.must("PATCH", path, {"status": status}, media="application/merge-patch+json")
    assert "condition met" in api.kubectl(
        *where, "wait", "--for=condition=Available", "deploy/web", "--timeout=5s"
    )
    assert "successfully rolled out" in api.kubectl(*where, "rollout", "status", "deploy/web", "--timeout=5s")
    assert api.kubectl(*where, "get", "deploy").splitlines()[1].split()[1] == "2/2"


def test_typed_commands_send_protobuf(api: Any, namespace: str) -> None:
    """`create` and `auth` go through Go's typed clients, which write protobuf."""
    where = ("-n", namespace)
    api.kubectl(
        *where, "create", "deployment", "x", "--image=a:1", "--replicas=3", "--port=90", "--", "sh", "-c", "x"
    )
    made = get(api, namespace, "deploy", "x")
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert made["spec"]["replicas"] == 3 and container["command"] == ["sh", "-c", "x"]
    assert container["ports"] == [{"containerPort": 90, "protocol": "TCP"}]
    api.kubectl(*where, "create", "configmap", "c", "--from-literal=a=b")
    api.kubectl(*where, "create", "secret", "generic", "s", "--from-literal=a=b")
    assert get(api, namespace, "cm", "c")["data"] == {"a": "b"}
    assert get(api, namespace, "secret", "s")["data"] == {"a": "Yg=="}
    api.kubectl(*where, "create", "job", "j", "--image=a:1", "--", "true")
    assert get(api, namespace, "job", "j")["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    api.kubectl(*where, "create", "service", "nodeport", "n", "--tcp=80:http")
    assert get(api, namespace, "svc", "n")["spec"]["ports"][0]["targetPort"] == "http"
    assert api.kubectl(*where, "create", "token", "default").count(".") == 2
    assert api.kubectl("auth", "can-i", "delete", "nodes") == "yes\n"
    assert "kubernetes-admin" in api.kubectl("auth", "whoami")


def test_discovery_and_what_is_not_served(api: Any, namespace: str) -> None:
    listed = api.kubectl("api-resources", "--no-headers", "-o", "name").split()
    assert {
        "pods",
        "deployments.apps",
        "endpointslices.discovery.k8s.io",
        "leases.coordination.k8s.io",
    } <= set(listed)
    assert "statefulsets.apps" not in listed
    assert "doesn't have a resource type" in api.kubectl("get", "statefulsets", ok=False)
    api.kubectl("-n", namespace, "run", "p", "--image=a:1")
    api.must(
        "POST",
        f"/api/v1/namespaces/{namespace}/pods/p/binding",
        {"target": {"kind": "Node", "name": "n"}, "metadata": {"name": "p"}},
    )
    set_running = {"status": {"phase": "Running"}}
    path = f"/api/v1/namespaces/{namespace}/pods/p/status"
    api.must("PATCH", path, set_running, media="application/merge-patch+json")
    assert "not supported by the embedded cluster" in api.kubectl(
        "-n", namespace, "exec", "p", "--", "ls", ok=False
    )
    assert "+embedded" in api.kubectl("version")


def test_deleting_a_running_pod_takes_two_steps(api: Any, namespace: str) -> None:
    """First the mark and the grace period, then, by the kubelet with grace 0, the end."""
    api.kubectl("-n", namespace, "run", "p", "--image=a:1")
    base = f"/api/v1/namespaces/{namespace}/pods/p"
    api.must("POST", f"{base}/binding", {"target": {"name": "n"}})
    marked = api.must("DELETE", base)
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert api.must("GET", base)["metadata"]["deletionTimestamp"] == marked["metadata"]["deletionTimestamp"]
    assert "Terminating" in api.kubectl("-n", namespace, "get", "pod", "p")
    assert api.must(
        "DELETE", base, {"gracePeriodSeconds": 0, "preconditions": {"uid": marked["metadata"]["uid"]}}
    )
    assert api.call("GET", base)[0] == 404
