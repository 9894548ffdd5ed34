"""Jobs, namespaces, endpoints: the smaller controllers, seen from outside."""

from tests.cluster.conftest import IMAGE, Lab, pod_spec

SLEEP = ["python", "-c", "import time; time.sleep(1000)"]


def job(name: str, code: str, **spec: object) -> dict[str, object]:
    container = {"name": "main", "image": IMAGE, "command": ["python", "-c", code]}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def test_a_job_completes(lab: Lab) -> None:
    lab.apply(job("sum", "print(6 * 7)", completions=3, parallelism=2))
    lab.kubectl("wait", "--for=condition=Complete", "job/sum", "--timeout=15s")
    assert lab.get("job", "sum")["status"]["succeeded"] == 3
    assert len(lab.get("pods")["items"]) == 3
    lab.kubectl("delete", "job", "sum")
    lab.until(lambda: not lab.get("pods")["items"])


def test_a_job_gives_up(lab: Lab) -> None:
    lab.apply(job("bad", "raise SystemExit(1)", backoffLimit=1))
    lab.kubectl("wait", "--for=condition=Failed", "job/bad", "--timeout=15s")
    assert lab.get("job", "bad")["status"]["failed"] == 2


def test_a_job_that_is_done_may_vanish(lab: Lab) -> None:
    lab.apply(job("brief", "pass", ttlSecondsAfterFinished=0))
    lab.until(lambda: not lab.get("jobs")["items"])


def test_a_namespace_takes_everything_along(lab: Lab) -> None:
    lab.apply(
        lab.pod("p", command=SLEEP),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}},
    )
    lab.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    lab.kubectl("delete", "namespace", lab.namespace, "--timeout=15s")
    assert lab.run("get", "namespace", lab.namespace).returncode != 0


def test_what_every_namespace_has_comes_back(lab: Lab) -> None:
    lab.kubectl("delete", "configmap", "kube-root-ca.crt")
    lab.kubectl("delete", "serviceaccount", "default")
    lab.until(lambda: lab.run("get", "configmap/kube-root-ca.crt", "serviceaccount/default").returncode == 0)


def test_endpoints_follow_readiness_and_named_ports(lab: Lab) -> None:
    ports = [{"name": "web", "containerPort": 8081}]
    probe = {"exec": {"command": ["test", "-f", "ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = "import time, pathlib; time.sleep(1); pathlib.Path('ready').touch(); time.sleep(1000)"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    }
    pod = lab.pod("web", command=["python", "-c", script], ports=ports, readinessProbe=probe)
    lab.apply(service, pod)

    def slice_() -> dict[str, object]:
        found = lab.get("endpointslices", "-l", "kubernetes.io/service-name=web")["items"]
        return found[0] if found else {}

    item = lab.until(lambda: (found := slice_()) and found["endpoints"] and found)
    assert item["ports"] == [{"name": "http", "port": 8081, "protocol": "TCP"}]
    assert item["endpoints"][0]["conditions"] == {"ready": False, "serving": False, "terminating": False}
    assert item["metadata"]["labels"]["team"] == "a"
    item = lab.until(lambda: (found := slice_())["endpoints"][0]["conditions"]["ready"] and found)
    assert item["endpoints"][0]["targetRef"]["name"] == "web"
    assert item["endpoints"][0]["nodeName"] and item["endpoints"][0]["zone"]
    lab.kubectl("delete", "pod", "web")
    lab.until(lambda: not slice_()["endpoints"])


def test_a_pod_that_no_node_fits_says_so(lab: Lab) -> None:
    lab.apply(lab.pod("picky", command=SLEEP, nodeSelector={"disk": "golden"}))
    lab.until(lambda: "FailedScheduling" in lab.reasons("picky"))
    assert lab.get("pod", "picky")["status"]["phase"] == "Pending"


def test_the_node(lab: Lab) -> None:
    node = lab.get("nodes")["items"][0]
    addresses = {a["type"]: a["address"] for a in node["status"]["addresses"]}
    assert addresses["InternalIP"] in lab.cluster.server
    lab.kubectl("wait", "--for=condition=Ready", f"node/{node['metadata']['name']}", "--timeout=5s")
    assert pod_spec(command=SLEEP)["containers"][0]["image"] == IMAGE
