"""Who is asking, and may they: tokens, certificates, impersonation, RBAC, reviews."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3

from cluster.embedded.auth import User
from cluster.embedded.rbac import Ask, rule_allows, subject_matches

Object = dict[str, Any]
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def token_request(api: Any, namespace: str, account: str = "default", **spec: Any) -> Object:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    return dict(api.must("POST", path, {"spec": spec})["status"])


def claims(token: str) -> Object:
    middle = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))))


def review(api: Any, token: str, *audiences: str) -> Object:
    spec = {"token": token, "audiences": list(audiences)}
    return dict(api.must("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": spec})["status"])


def test_a_token_says_who_for_whom_and_how_long(api: Any, namespace: str) -> None:
    status = token_request(api, namespace, audiences=["istio-ca"], expirationSeconds=600)
    said = claims(status["token"])
    assert said["sub"] == f"system:serviceaccount:{namespace}:default" and said["aud"] == ["istio-ca"]
    assert said["exp"] - said["iat"] == 600
    checked = review(api, status["token"], "istio-ca", "other")
    assert checked["authenticated"] and checked["audiences"] == ["istio-ca"]
    assert checked["user"]["username"] == said["sub"]
    assert f"system:serviceaccounts:{namespace}" in checked["user"]["groups"]
    assert not review(api, status["token"]).get("authenticated")
    assert not review(api, status["token"], "other").get("authenticated")
    assert api.call("GET", "/api", token=status["token"])[0] == 401


def test_a_bound_token_dies_with_its_pod(api: Any, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    uid = api.must("POST", pods, pod)["metadata"]["uid"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
    token = token_request(api, namespace, boundObjectRef=bound, expirationSeconds=3607)["token"]
    user = review(api, token)["user"]
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    api.must("DELETE", f"{pods}/p")
    assert not review(api, token).get("authenticated")
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    assert api.call("POST", path, {"spec": {"boundObjectRef": bound}})[0] == 404


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-4] + ("AAAA" if t[-4:] != "AAAA" else "BBBB"),
        lambda t: "x",
        lambda t: t.rpartition(".")[0] + ".",
    ],
)
def test_forged_tokens(api: Any, namespace: str, change: Any) -> None:
    token = token_request(api, namespace)["token"]
    assert api.call("GET", "/api", token=token)[0] == 200
    code, status = api.call("GET", "/api", token=change(token))
    assert (code, status["reason"]) == (401, "Unauthorized")


def test_a_token_cannot_be_too_short_or_for_nobody(api: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    assert api.call("POST", path, {"spec": {"expirationSeconds": 5}})[0] == 400
    assert api.call("POST", path.replace("default/token", "none/token"), {"spec": {}})[0] == 404


def test_a_client_certificate_names_user_and_groups(api: Any) -> None:
    pki = Path(api.state) / "pki"
    with urllib3.PoolManager(
        ca_certs=str(pki / "ca.crt"), cert_file=str(pki / "admin.crt"), key_file=str(pki / "admin.key")
    ) as http:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        answer = http.request("POST", api.server + path, json={})
    info = answer.json()["status"]["userInfo"]
    assert info["username"] == "kubernetes-admin" and "system:masters" in info["groups"]


def test_nobody_sees_only_health_and_version(api: Any) -> None:
    assert api.send("GET", "/healthz", token="").data == b"ok"
    assert api.call("GET", "/version", token="")[0] == 200
    code, status = api.call("GET", "/api/v1/namespaces", token="")
    assert code == 403 and 'User "system:anonymous" cannot list resource "namespaces"' in status["message"]
    assert api.call("GET", "/metrics", token="")[0] == 403


def test_roles(api: Any, namespace: str) -> None:
    """Nothing without a binding; then exactly what the role says, where the binding says."""
    token = token_request(api, namespace)["token"]
    pods, maps = f"/api/v1/namespaces/{namespace}/pods", f"/api/v1/namespaces/{namespace}/configmaps"
    code, status = api.call("GET", pods, token=token)
    assert (code, status["reason"]) == (403, "Forbidden")
    assert status["message"] == (
        f'pods is forbidden: User "system:serviceaccount:{namespace}:default" cannot list resource "pods" '
        f'in API group "" in the namespace "{namespace}"'
    )
    role = {
        "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
    }
    api.must("POST", f"{RBAC}/namespaces/{namespace}/roles", role)
    subject = {"kind": "ServiceAccount", "name": "default"}
    binding = {"metadata": {"name": "r"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [subject]}
    api.must("POST", f"{RBAC}/namespaces/{namespace}/rolebindings", binding)
    assert api.call("GET", pods, token=token)[0] == 200
    assert api.call("GET", "/api/v1/namespaces/default/pods", token=token)[0] == 403
    assert api.call("GET", "/api/v1/pods", token=token)[0] == 403
    assert api.call("GET", maps, token=token)[0] == 403
    assert api.call("GET", f"{pods}?watch=1&timeoutSeconds=1", token=token)[0] == 403
    code, status = api.call("PATCH", f"{RBAC}/namespaces/{namespace}/rolebindings/r", {"roleRef": {"name": "x"}},
                            media="application/merge-patch+json")  # fmt: skip
    assert code == 422 and "cannot change roleRef" in status["message"]


def test_can_i(api: Any, namespace: str) -> None:
    who = f"--as=system:serviceaccount:{namespace}:default"
    assert api.kubectl("auth", "can-i", "list", "pods", "-n", namespace, who, ok=False) == ""
    api.kubectl(
        "-n",
        namespace,
        "create",
        "rolebinding",
        "v",
        "--clusterrole=view",
        f"--serviceaccount={namespace}:default",
    )
    assert api.kubectl("auth", "can-i", "list", "pods", "-n", namespace, who) == "yes\n"
    api.kubectl("auth", "can-i", "get", "secrets", "-n", namespace, who, ok=False)
    assert "cannot list resource" in api.kubectl("get", "pods", "-n", "default", who, ok=False)


def test_impersonation_needs_permission(api: Any, namespace: str) -> None:
    token = token_request(api, namespace)["token"]
    extra = {"Impersonate-User": "kubernetes-admin", "Impersonate-Group": "system:masters"}
    code, status = api.call("GET", "/api/v1/nodes", token=token, **extra)
    assert code == 403 and "cannot impersonate resource" in status["message"]


def test_keys_are_published(api: Any, namespace: str) -> None:
    """Anybody can check a token by itself with the published keys."""
    from joserfc import jwt
    from joserfc.jwk import KeySet

    token = token_request(api, namespace)["token"]
    keys = KeySet.import_key_set(api.must("GET", "/openid/v1/jwks"))
    said = jwt.decode(token, keys, algorithms=["ES256"]).claims
    issuer = api.must("GET", "/.well-known/openid-configuration")["issuer"]
    assert said["iss"] == issuer and said["exp"] > time.time()


@pytest.mark.parametrize(
    ("rule", "ask", "allowed"),
    [
        ({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, Ask("get", "apps", "deployments"), True),
        ({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}, Ask("get", "", "pods", "log"), False),
        (
            {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
            Ask("get", "", "pods", "log"),
            True,
        ),
        ({"apiGroups": [""], "resources": ["*/log"], "verbs": ["get"]}, Ask("get", "", "pods", "log"), True),
        ({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}, Ask("get", "apps", "pods"), False),
        (
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["a"]},
            Ask("get", "", "pods", name="b"),
            False,
        ),
        ({"nonResourceURLs": ["/healthz*"], "verbs": ["get"]}, Ask("get", path="/healthz/etcd"), True),
        ({"nonResourceURLs": ["/healthz"], "verbs": ["get"]}, Ask("get", path="/metrics"), False),
    ],
)
def test_rules(rule: Object, ask: Ask, allowed: bool) -> None:
    assert rule_allows(rule, ask) is allowed


def test_subjects() -> None:
    user = User("system:serviceaccount:a:b", ("system:serviceaccounts",))
    assert subject_matches({"kind": "ServiceAccount", "name": "b"}, user, "a")
    assert not subject_matches({"kind": "ServiceAccount", "name": "b", "namespace": "c"}, user, "a")
    assert subject_matches({"kind": "Group", "name": "system:serviceaccounts"}, user, "")
