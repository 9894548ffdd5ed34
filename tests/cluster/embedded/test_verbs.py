"""What the API promises about objects: versions, conflicts, preconditions, finalizers, lists, watches, Status."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

Object = dict[str, Any]
MERGE = "application/merge-patch+json"


@pytest.fixture
def maps(api: Any, namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def watch(api: Any, path: str) -> Iterator[Object]:
    """The events of a watch."""
    headers = {"Authorization": f"Bearer {api.token}"}
    answer = api.http.request("GET", api.server + path, headers=headers, preload_content=False)
    assert answer.status == 200, answer.data
    rest = b""
    for chunk in answer.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from map(json.loads, lines)


def test_create_get_update_conflict(api: Any, maps: str) -> None:
    made = api.must("POST", maps, {"metadata": {"name": "a"}, "data": {"k": "1"}})
    assert {"uid", "resourceVersion", "creationTimestamp"} <= set(made["metadata"])
    code, status = api.call("POST", maps, {"metadata": {"name": "a"}})
    assert (code, status["reason"]) == (409, "AlreadyExists")
    changed = api.must("PUT", f"{maps}/a", made | {"data": {"k": "2"}})
    assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    code, status = api.call("PUT", f"{maps}/a", made | {"data": {"k": "3"}})
    assert (code, status["reason"]) == (409, "Conflict")
    assert status["details"] == {"name": "a", "kind": "configmaps"}
    del made["metadata"]["resourceVersion"]
    assert api.must("PUT", f"{maps}/a", made | {"data": {"k": "4"}})["data"] == {"k": "4"}


def test_an_update_without_change_keeps_the_version(api: Any, maps: str) -> None:
    made = api.must("POST", maps, {"metadata": {"name": "a"}, "data": {"k": "1"}})
    assert api.must("PUT", f"{maps}/a", made)["metadata"] == made["metadata"]
    assert api.must("PATCH", f"{maps}/a", {"data": {"k": "1"}}, media=MERGE)["metadata"] == made["metadata"]


def test_generate_name_and_dry_run(api: Any, maps: str) -> None:
    names = {
        api.must("POST", maps, {"metadata": {"generateName": "x-"}})["metadata"]["name"] for _ in range(3)
    }
    assert len(names) == 3 and all(name.startswith("x-") and len(name) == 7 for name in names)
    api.must("POST", f"{maps}?dryRun=All", {"metadata": {"name": "dry"}})
    assert api.call("GET", f"{maps}/dry")[0] == 404


def test_delete_preconditions_and_finalizers(api: Any, maps: str) -> None:
    made = api.must("POST", maps, {"metadata": {"name": "a", "finalizers": ["lab.example/hold"]}})
    code, status = api.call("DELETE", f"{maps}/a", {"preconditions": {"uid": "other"}})
    assert code == 409 and "UID in precondition: other" in status["message"]
    marked = api.must("DELETE", f"{maps}/a")
    assert marked["metadata"]["deletionTimestamp"]
    held = api.must("GET", f"{maps}/a")
    api.must("PATCH", f"{maps}/a", {"metadata": {"finalizers": None}}, media=MERGE)
    assert api.call("GET", f"{maps}/a")[0] == 404
    assert held["metadata"]["uid"] == made["metadata"]["uid"]


def test_delete_collection(api: Any, maps: str) -> None:
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        api.must("POST", maps, {"metadata": {"name": name, "labels": {"l": label}}})
    api.must("DELETE", f"{maps}?labelSelector=l%3Dx")
    left = [item["metadata"]["name"] for item in api.must("GET", maps)["items"]]
    assert left == ["c", "kube-root-ca.crt"]


def test_list_in_pieces(api: Any, maps: str) -> None:
    for index in range(5):
        api.must("POST", maps, {"metadata": {"name": f"m{index}", "labels": {"l": "x"}}})
    names, token = [], ""
    while True:
        page = api.must("GET", f"{maps}?limit=2&labelSelector=l&continue={token}")
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
        if not token:
            break
        assert page["metadata"]["remainingItemCount"] == 5 - len(names)
    assert names == [f"m{index}" for index in range(5)]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=a", "1"),
        ("app!=a", "2 3 kube-root-ca.crt"),
        ("app in (a,b)", "1 2"),
        ("app notin (a)", "2 3 kube-root-ca.crt"),
        ("app", "1 2"),
        ("!app", "3 kube-root-ca.crt"),
        ("app,tier==x", "2"),
    ],
)
def test_label_selectors(api: Any, maps: str, selector: str, names: str) -> None:
    for name, labels in (("1", {"app": "a"}), ("2", {"app": "b", "tier": "x"}), ("3", {})):
        api.must("POST", maps, {"metadata": {"name": name, "labels": labels}})
    found = api.must("GET", f"{maps}?labelSelector={quote(selector)}")["items"]
    assert " ".join(item["metadata"]["name"] for item in found) == names


def test_selectors_that_are_none(api: Any, maps: str) -> None:
    code, status = api.call("GET", f"{maps}?labelSelector=a%3D%3Db%3Dc,")
    assert code == 400 and "unable to parse" in status["message"]
    code, status = api.call("GET", f"{maps}?fieldSelector=spec.x%3D1")
    assert code == 400 and "field label not supported" in status["message"]


def test_watch_sees_what_enters_and_leaves_its_selection(api: Any, maps: str) -> None:
    since = api.must("GET", maps)["metadata"]["resourceVersion"]
    events = watch(api, f"{maps}?watch=1&resourceVersion={since}&labelSelector=l%3Dx&timeoutSeconds=20")
    api.must("POST", maps, {"metadata": {"name": "a"}})
    api.must("PATCH", f"{maps}/a", {"metadata": {"labels": {"l": "x"}}}, media=MERGE)
    api.must("PATCH", f"{maps}/a", {"data": {"k": "v"}}, media=MERGE)
    api.must("PATCH", f"{maps}/a", {"metadata": {"labels": {"l": "y"}}}, media=MERGE)
    seen = [next(events) for _ in range(3)]
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in seen]
    assert versions == sorted(versions) and versions[0] > int(since)


def test_watch_with_initial_events_and_bookmark(api: Any, maps: str) -> None:
    api.must("POST", maps, {"metadata": {"name": "a"}})
    query = (
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=20"
    )
    events = watch(api, f"{maps}?watch=1&{query}")
    first = [next(events) for _ in range(3)]
    assert [event["type"] for event in first] == ["ADDED", "ADDED", "BOOKMARK"]
    assert first[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    api.must("DELETE", f"{maps}/a")
    assert next(events)["type"] == "DELETED"


def test_watch_ends_in_time(api: Any, maps: str) -> None:
    assert [e["type"] for e in watch(api, f"{maps}?watch=1&timeoutSeconds=1")] == ["ADDED"]


def test_a_version_from_another_life_is_gone(api: Any, maps: str) -> None:
    """A version that this server never gave: the client must list again. (Too old ones: test_store.py.)"""
    (event,) = watch(api, f"{maps}?watch=1&resourceVersion=999999999&timeoutSeconds=5")
    assert event["type"] == "ERROR" and event["object"]["code"] == 410


def test_status_is_a_world_of_its_own(api: Any, namespace: str) -> None:
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a", "image": "a:1"}]},
        "status": {"phase": "Failed"},
    }
    base = f"/api/v1/namespaces/{namespace}/pods"
    made = api.must("POST", base, pod)
    assert made["status"]["phase"] == "Pending" and made["metadata"]["generation"] == 1
    assert (
        api.must("PUT", f"{base}/p", made | {"status": {"phase": "Failed"}})["status"]["phase"] == "Pending"
    )
    changed = made | {"status": {"phase": "Running"}, "spec": made["spec"] | {"nodeName": "n"}}
    stored = api.must("PUT", f"{base}/p/status", changed)
    assert stored["status"]["phase"] == "Running" and "nodeName" not in stored["spec"]
    assert stored["metadata"]["generation"] == 1


def test_scale(api: Any, namespace: str) -> None:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    api.must("POST", path, body)
    scale = api.must("GET", f"{path}/d/scale")
    assert scale["spec"] == {"replicas": 1} and scale["status"] == {"replicas": 0, "selector": "app=x"}
    assert api.must("PATCH", f"{path}/d/scale", {"spec": {"replicas": 4}}, media=MERGE)["spec"] == {
        "replicas": 4
    }
    assert api.must("GET", f"{path}/d")["metadata"]["generation"] == 2
    code, status = api.call("PATCH", f"{path}/d/scale", {"spec": {"replicas": -1}}, media=MERGE)
    assert code == 422 and "spec.replicas" in status["message"]


def test_services_get_addresses_and_ports(api: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    spec = {"type": "NodePort", "ports": [{"port": 80}]}
    first = api.must("POST", path, {"metadata": {"name": "a"}, "spec": spec})["spec"]
    assert 30000 <= first["ports"][0]["nodePort"] <= 32767
    taken = {"type": "NodePort", "ports": [{"port": 80, "nodePort": first["ports"][0]["nodePort"]}]}
    code, status = api.call("POST", path, {"metadata": {"name": "b"}, "spec": taken})
    assert code == 422 and "provided port is already allocated" in status["message"]
    same = {"clusterIP": first["clusterIP"], "ports": [{"port": 80}]}
    code, status = api.call("POST", path, {"metadata": {"name": "b"}, "spec": same})
    assert code == 422 and "already allocated" in status["message"]
    code, status = api.call("PATCH", f"{path}/a", {"spec": {"clusterIP": "127.1.1.1"}}, media=MERGE)
    assert code == 422 and "field is immutable" in status["message"]
    plain = api.must("PATCH", f"{path}/a", {"spec": {"type": "ClusterIP"}}, media=MERGE)["spec"]
    assert "nodePort" not in plain["ports"][0] and plain["clusterIP"] == first["clusterIP"]
    headless = api.must("POST", path, {"metadata": {"name": "h"}, "spec": {"clusterIP": "None"}})["spec"]
    assert headless["clusterIP"] == "None"


def test_namespaces_are_furnished_and_finalized(api: Any) -> None:
    api.must("POST", "/api/v1/namespaces", {"metadata": {"name": "brief"}})
    assert api.must("GET", "/api/v1/namespaces/brief/serviceaccounts/default")
    assert (
        "BEGIN CERTIFICATE"
        in api.must("GET", "/api/v1/namespaces/brief/configmaps/kube-root-ca.crt")["data"]["ca.crt"]
    )
    marked = api.must("DELETE", "/api/v1/namespaces/brief")
    assert marked["status"]["phase"] == "Terminating"
    code, status = api.call("POST", "/api/v1/namespaces/brief/configmaps", {"metadata": {"name": "late"}})
    assert code == 403 and status["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    api.must("PUT", "/api/v1/namespaces/brief/finalize", marked | {"spec": {"finalizers": []}})
    assert api.call("GET", "/api/v1/namespaces/brief")[0] == 404
    assert api.call("DELETE", "/api/v1/namespaces/default")[0] == 403
    code, status = api.call("POST", "/api/v1/namespaces/nosuch/configmaps", {"metadata": {"name": "x"}})
    assert (code, status["message"]) == (404, 'namespaces "nosuch" not found')


def test_pods_get_their_account_and_are_bound_once(api: Any, namespace: str) -> None:
    base = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"containers": [{"name": "a", "image": "a:1"}]}
    made = api.must("POST", base, {"metadata": {"name": "p"}, "spec": spec})
    assert made["spec"]["serviceAccountName"] == "default"
    assert made["spec"]["containers"][0]["volumeMounts"][0]["mountPath"].endswith(
        "kubernetes.io/serviceaccount"
    )
    code, status = api.call(
        "POST", base, {"metadata": {"name": "q"}, "spec": spec | {"serviceAccountName": "no"}}
    )
    assert code == 403 and "error looking up service account" in status["message"]
    api.must("POST", f"{base}/p/binding", {"target": {"name": "n1"}})
    bound = api.must("GET", f"{base}/p")
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    code, status = api.call("POST", f"{base}/p/binding", {"target": {"name": "n2"}})
    assert code == 409 and "already assigned" in status["message"]
    code, status = api.call("PATCH", f"{base}/p", {"spec": {"restartPolicy": "Never"}}, media=MERGE)
    assert code == 422 and "pod updates may not change fields" in status["message"]


def test_eviction_obeys_a_budget(api: Any, namespace: str) -> None:
    base = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"containers": [{"name": "a", "image": "a:1"}]}
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    for name in "pq":
        api.must("POST", base, {"metadata": {"name": name, "labels": {"a": "b"}}, "spec": spec})
        api.must("PATCH", f"{base}/{name}/status", ready, media=MERGE)
    budget = {
        "metadata": {"name": "x"},
        "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}},
    }
    api.must("POST", f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", budget)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    api.must("POST", f"{base}/p/eviction", eviction)
    assert api.call("GET", f"{base}/p")[0] == 404
    code, status = api.call("POST", f"{base}/q/eviction", eviction | {"metadata": {"name": "q"}})
    assert (code, status["reason"]) == (429, "TooManyRequests")
    assert "The disruption budget x needs 1 more ready pods" in status["details"]["causes"][0]["message"]


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/api/v1/namespaces/default/widgets", 404, "NotFound"),
        ("GET", "/apis/nosuch.io/v1/things", 404, "NotFound"),
        ("GET", "/apis/apps/v1/namespaces/default/statefulsets", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/pods/none", 404, "NotFound"),
        ("GET", "/nowhere", 404, "NotFound"),
        ("POST", "/api/v1/namespaces/default/configmaps/x", 405, "MethodNotAllowed"),
        ("DELETE", "/api/v1/namespaces/default/pods/x/status", 405, "MethodNotAllowed"),
        ("GET", "/apis/authentication.k8s.io/v1/tokenreviews", 405, "MethodNotAllowed"),
        ("GET", "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=x", 400, "BadRequest"),
    ],
)
def test_refusals(api: Any, method: str, path: str, code: int, reason: str) -> None:
    got, status = api.call(method, path)
    assert (got, status["kind"], status["reason"]) == (code, "Status", reason)


@pytest.mark.parametrize(
    ("body", "media", "code", "says"),
    [
        (b"{", "application/json", 400, "unrecognized"),
        (b"a: [", "application/yaml", 400, "unrecognized"),
        (b"- 1", "application/yaml", 400, "must be an object of kind ConfigMap, not a list"),
        (b"{}", "text/csv", 415, "unknown format"),
        (b'{"kind":"Pod","apiVersion":"v1"}', "application/json", 400, "cannot be handled as a ConfigMap"),
        (
            b'{"metadata":{"name":"a"},"data":[]}',
            "application/json",
            400,
            "cannot unmarshal array into Go struct field",
        ),
        (b'{"metadata":[]}', "application/json", 400, "metadata"),
        (b"{}", "application/json", 400, "resource name may not be empty"),
        (
            b'{"metadata":{"name":"a","labels":{"b":1}}}',
            "application/json",
            400,
            "ConfigMap.metadata.labels.b",
        ),
        (
            b'{"metadata":{"name":"a","labels":{"b":"-"}}}',
            "application/json",
            422,
            "metadata.labels: Invalid value",
        ),
        (b'{"metadata":{"name":"a/b"}}', "application/json", 422, "metadata.name"),
        (b"k8s\x00\xff\xff", "application/vnd.kubernetes.protobuf", 400, "no Kubernetes protobuf"),
        (b"x" * (3 * 1024 * 1024 + 1), "application/json", 413, "larger than"),
    ],
)
def test_bad_bodies(api: Any, maps: str, body: bytes, media: str, code: int, says: str) -> None:
    got, status = api.call("POST", maps, body, media=media)
    assert (got, status["kind"]) == (code, "Status") and says in status["message"], status


def test_unknown_fields(api: Any, maps: str) -> None:
    body = {"metadata": {"name": "a", "nme": 1}, "dta": {}}
    code, status = api.call("POST", f"{maps}?fieldValidation=Strict", body)
    assert code == 400
    assert status["message"] == 'strict decoding error: unknown field "metadata.nme", unknown field "dta"'
    answer = api.send("POST", f"{maps}?fieldValidation=Warn", body)
    assert answer.headers.getlist("Warning") == [
        '299 - "unknown field \\"metadata.nme\\""',
        '299 - "unknown field \\"dta\\""',
    ]
    assert "dta" not in answer.json() and "nme" not in answer.json()["metadata"]
    assert (
        "Warning"
        not in api.send("POST", f"{maps}?fieldValidation=Ignore", body | {"metadata": {"name": "b"}}).headers
    )


def test_causes_name_the_fields(api: Any, namespace: str) -> None:
    body = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 0}, {"port": 90000, "protocol": "XXX"}]}}
    code, status = api.call("POST", f"/api/v1/namespaces/{namespace}/services", body)
    assert code == 422 and status["details"]["kind"] == "Service"
    fields = {cause["field"] for cause in status["details"]["causes"]}
    assert {
        "spec.ports[0].port",
        "spec.ports[1].port",
        "spec.ports[1].protocol",
        "spec.ports[0].name",
    } <= fields
