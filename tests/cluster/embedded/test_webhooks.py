"""Admission webhooks over real TLS: found by service or url, selected, obeyed, and their failures handled."""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster.embedded.certificates import new_authority

Object = dict[str, Any]


class Hook:
    """A webhook server that answers with `answer(request)` and remembers what it was asked."""

    def __init__(self, folder: Path) -> None:
        authority = new_authority("hook ca")
        certificate, key = authority.issue("hook", names=("hook.hooks.svc", "127.0.0.1"))
        self.bundle = base64.b64encode(authority.pem).decode()
        self.asked: list[Object] = []
        self.answer: Callable[[Object], Object] = lambda request: {"allowed": True}
        (folder / "hook.pem").write_bytes(certificate + key)
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.asked.append(review["request"])
                response = {"uid": review["request"]["uid"]} | hook.answer(review["request"])
                body = json.dumps(
                    {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}
                )
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "hook.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Hook]:
    hook = Hook(tmp_path)
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def configure(api: Any, hook: Hook, namespace: str) -> Iterator[Callable[..., None]]:
    """Registers the hook for ConfigMaps and pods of the test's namespace."""
    made: list[str] = []

    def register(kind: str = "Mutating", client: Object | None = None, **more: Any) -> None:
        webhook = {
            "name": "hook.example.com",
            "clientConfig": {
                "caBundle": hook.bundle,
                **(client or {"url": f"https://127.0.0.1:{hook.port}/x"}),
            },
            "rules": [
                {
                    "operations": ["*"],
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "resources": ["configmaps", "pods"],
                }
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
        }
        path = f"/apis/admissionregistration.k8s.io/v1/{kind.lower()}webhookconfigurations"
        api.must("POST", path, {"metadata": {"name": namespace}, "webhooks": [webhook | more]})
        made.append(f"{path}/{namespace}")

    yield register
    for path in made:
        api.call("DELETE", path)


def answer_patch(*steps: Object) -> Object:
    patch = base64.b64encode(json.dumps(list(steps)).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": patch}


def test_mutating_by_url(api: Any, hook: Hook, configure: Callable[..., None], namespace: str) -> None:
    configure()
    hook.answer = lambda request: answer_patch({"op": "add", "path": "/data", "value": {"made": "by hook"}})
    made = api.must("POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "a"}})
    assert made["data"] == {"made": "by hook"}
    request = hook.asked[0]
    assert request["operation"] == "CREATE" and request["namespace"] == namespace
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["userInfo"]["username"] == "kubernetes-admin"
    assert request["object"]["metadata"]["name"] == "a"


def test_mutating_by_service(api: Any, hook: Hook, configure: Callable[..., None], namespace: str) -> None:
    """Through the Service's endpoints, the certificate checked for NAME.NAMESPACE.svc; containers it adds get the
    token.
    """
    if api.call("GET", "/api/v1/namespaces/hooks")[0] == 404:
        api.must("POST", "/api/v1/namespaces", {"metadata": {"name": "hooks"}})
    spec = {"ports": [{"name": "https", "port": 443, "targetPort": 10250}]}
    api.must("POST", "/api/v1/namespaces/hooks/services", {"metadata": {"name": "hook"}, "spec": spec})
    slice_ = {
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": hook.port, "protocol": "TCP"}],
    }
    api.must("POST", "/apis/discovery.k8s.io/v1/namespaces/hooks/endpointslices", slice_)
    configure(client={"service": {"namespace": "hooks", "name": "hook", "path": "/inject"}})
    sidecar = {"name": "istio-proxy", "image": "b:1"}
    hook.answer = lambda request: answer_patch({"op": "add", "path": "/spec/containers/-", "value": sidecar})
    pod = {"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "app", "image": "a:1"}]}}
    made = api.must("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    app, proxy = made["spec"]["containers"]
    assert proxy["name"] == "istio-proxy" and proxy["imagePullPolicy"] == "IfNotPresent"
    assert app["volumeMounts"] == proxy["volumeMounts"]
    assert len(made["spec"]["volumes"]) == 1
    assert hook.asked[0]["name"] == made["metadata"]["name"]


def test_validating_refuses_and_warns(
    api: Any, hook: Hook, configure: Callable[..., None], namespace: str
) -> None:
    configure("Validating")
    hook.answer = lambda request: {"allowed": True, "warnings": ["spec.x: goes nowhere"]}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    answer = api.send("POST", path, {"metadata": {"name": "a"}})
    assert answer.headers["Warning"] == '299 - "spec.x: goes nowhere"'
    hook.answer = lambda request: {
        "allowed": False,
        "status": {"code": 422, "message": "spec.weight: not a number"},
    }
    code, status = api.call("POST", path, {"metadata": {"name": "b"}})
    assert code == 422 and status["message"] == (
        'admission webhook "hook.example.com" denied the request: spec.weight: not a number'
    )
    assert api.call("GET", f"{path}/b")[0] == 404
    assert "denied the request" in api.kubectl("-n", namespace, "create", "configmap", "c", ok=False)


def test_update_and_delete_show_the_old_object(
    api: Any, hook: Hook, configure: Callable[..., None], namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.must("POST", path, {"metadata": {"name": "a"}, "data": {"k": "1"}})
    configure("Validating")
    api.must("PATCH", f"{path}/a", {"data": {"k": "2"}}, media="application/merge-patch+json")
    assert (hook.asked[0]["oldObject"]["data"], hook.asked[0]["object"]["data"]) == ({"k": "1"}, {"k": "2"})
    hook.answer = lambda request: {"allowed": False}
    code, status = api.call("DELETE", f"{path}/a")
    assert (code, status["reason"]) == (403, "Forbidden")
    assert hook.asked[1]["operation"] == "DELETE" and hook.asked[1]["object"] is None


def test_selectors(api: Any, hook: Hook, configure: Callable[..., None], namespace: str) -> None:
    configure("Validating", objectSelector={"matchExpressions": [{"key": "check", "operator": "Exists"}]})
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.must("POST", path, {"metadata": {"name": "a"}})
    api.must("POST", "/api/v1/namespaces/default/configmaps?dryRun=All", {"metadata": {"name": "a"}})
    assert hook.asked == []
    api.must("POST", path, {"metadata": {"name": "b", "labels": {"check": ""}}})
    assert len(hook.asked) == 1


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_failure_policy(
    api: Any, hook: Hook, configure: Callable[..., None], namespace: str, policy: str
) -> None:
    configure(client={"url": f"https://127.0.0.1:{hook.port}/", "caBundle": other_ca()}, failurePolicy=policy)
    code, answer = api.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "a"}})
    if policy == "Ignore":
        assert code == 201
    else:
        assert code == 500 and 'failed calling webhook "hook.example.com"' in answer["message"]
        assert "certificate" in answer["message"].lower()


def other_ca() -> str:
    return base64.b64encode(new_authority("other").pem).decode()
