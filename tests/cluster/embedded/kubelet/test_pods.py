"""Pods as people see them: what runs, what is refused, what is said about it."""

import json
import time

from tests.cluster.conftest import IMAGE, Lab, pod_spec

SERVER = ["python", "-m", "http.server", "8080"]
READY = {"httpGet": {"path": "/", "port": 8080}}


def state(lab: Lab, name: str, container: int = 0) -> dict[str, dict[str, str]]:
    statuses = lab.get("pod", name).get("status", {}).get("containerStatuses") or [{}]
    found: dict[str, dict[str, str]] = statuses[container].get("state", {})
    return found


def waiting(lab: Lab, name: str) -> str:
    return state(lab, name).get("waiting", {}).get("reason", "")


def test_a_pod_runs_is_ready_and_ends_with_grace(lab: Lab) -> None:
    script = """
import signal, sys, time
def bye(*_):
    print("bye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
print("hello", flush=True)
time.sleep(1000)
"""
    lab.apply(lab.pod("p", command=["python", "-c", script], terminationGracePeriodSeconds=20))
    lab.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    status = lab.get("pod", "p")["status"]
    assert status["phase"] == "Running" and status["podIP"].startswith("127.")
    assert lab.until(lambda: lab.kubectl("logs", "p")) == "hello\n"
    begun = time.monotonic()
    lab.kubectl("delete", "pod", "p", "--timeout=10s")
    assert time.monotonic() - begun < 5
    assert {"Scheduled", "Pulled", "Created", "Started", "Killing"} <= lab.until(
        lambda: (found := lab.reasons("p")) and "Killing" in found and found
    )


def test_who_ignores_sigterm_is_killed_when_its_grace_is_over(lab: Lab) -> None:
    script = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    )
    lab.apply(lab.pod("deaf", command=["python", "-c", script], terminationGracePeriodSeconds=1))
    lab.until(lambda: "up" in lab.run("logs", "deaf").stdout)
    begun = time.monotonic()
    lab.kubectl("delete", "pod", "deaf")
    assert 0.9 < time.monotonic() - begun < 4


def test_a_warm_module_and_an_exec_see_the_same_environment(lab: Lab) -> None:
    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings"},
            "data": {"COLOUR": "blue"},
        },
        lab.pod(
            "env",
            command=["python", "-c", "import os, json; print(json.dumps(dict(os.environ)))"],
            envFrom=[{"configMapRef": {"name": "settings"}}],
            env=[
                {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "BOTH", "value": "$(ME)-$(COLOUR)-$(NOBODY)-$$(ME)"},
                {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            ],
            resources={"limits": {"cpu": "1500m"}},
            restartPolicy="Never",
        ),
    )
    lab.until(lambda: lab.get("pod", "env").get("status", {}).get("phase") == "Succeeded")
    env = json.loads(lab.kubectl("logs", "env"))
    assert env["BOTH"] == "env-blue-$(NOBODY)-$(ME)"
    assert (
        env["IP"]
        == env["LAB_POD_ADDRESS"]
        == env["LAB_BIND_ADDRESS"]
        == lab.get("pod", "env")["status"]["podIP"]
    )
    assert env["CPUS"] == "2" and env["HOSTNAME"] == "env"
    assert env["KUBERNETES_SERVICE_HOST"] in lab.cluster.server
    assert "http_proxy" not in {name.lower() for name in env}


def test_volumes_appear_below_the_sandbox_and_follow_their_source(lab: Lab) -> None:
    script = """
import os, pathlib, time
root = os.environ["CONTAINER_SANDBOX_MOUNT_POINT"]
conf = pathlib.Path(root + "/etc/conf/colour")
print(conf.read_text(), pathlib.Path(root + "/etc/all/labels").read_text(), flush=True)
print(len(pathlib.Path(root + "/etc/all/token").read_text().split(".")), flush=True)
pathlib.Path(root + "/scratch/x").write_text("x")
while conf.read_text() != "red":
    time.sleep(0.02)
print("red now", flush=True)
"""
    sources = [
        {"serviceAccountToken": {"audience": "somebody", "expirationSeconds": 600, "path": "token"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"colour": "blue"},
    }
    lab.apply(
        settings,
        lab.pod(
            "mounts",
            command=["python", "-c", script],
            volumes=[
                {"name": "conf", "configMap": {"name": "settings"}},
                {"name": "all", "projected": {"sources": sources}},
                {"name": "scratch", "emptyDir": {}},
            ],
            volumeMounts=[
                {"name": "conf", "mountPath": "/etc/conf"},
                {"name": "all", "mountPath": "/etc/all"},
                {"name": "scratch", "mountPath": "/scratch"},
            ],
            restartPolicy="Never",
        ),
    )
    lab.until(lambda: "3\n" in lab.run("logs", "mounts").stdout)
    lab.apply({**settings, "data": {"colour": "red"}})
    lab.until(lambda: lab.get("pod", "mounts")["status"]["phase"] == "Succeeded")
    assert lab.kubectl("logs", "mounts") == 'blue app="mounts"\n3\nred now\n'


def test_a_missing_configmap_is_a_config_error_until_it_comes(lab: Lab) -> None:
    lab.apply(lab.pod("needy", command=SERVER, envFrom=[{"configMapRef": {"name": "later"}}]))
    lab.until(lambda: waiting(lab, "needy") == "CreateContainerConfigError")
    assert state(lab, "needy")["waiting"]["message"] == 'configmap "later" not found'
    lab.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}})
    lab.kubectl("wait", "--for=condition=Ready", "pod/needy", "--timeout=10s")


def test_a_missing_volume_source_keeps_the_container_from_being_created(lab: Lab) -> None:
    volume = {"name": "conf", "secret": {"secretName": "later"}}
    mount = {"name": "conf", "mountPath": "/conf"}
    lab.apply(lab.pod("needy", command=SERVER, volumes=[volume], volumeMounts=[mount]))
    lab.until(lambda: "FailedMount" in lab.reasons("needy"))
    assert waiting(lab, "needy") == "ContainerCreating"
    lab.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "later"}})
    lab.kubectl("wait", "--for=condition=Ready", "pod/needy", "--timeout=10s")


def test_another_image_cannot_be_pulled(lab: Lab) -> None:
    lab.apply(lab.pod("foreign", image="docker.io/library/nginx:1.27", command=SERVER))
    lab.until(lambda: waiting(lab, "foreign") in ("ErrImagePull", "ImagePullBackOff"))
    assert "kind" in state(lab, "foreign")["waiting"]["message"]
    assert lab.get("pod", "foreign")["status"]["phase"] == "Pending"
    lab.kubectl("set", "image", "pod/foreign", f"main={IMAGE}")
    lab.until(lambda: waiting(lab, "foreign") == "CrashLoopBackOff" or "running" in state(lab, "foreign"))
    lab.kubectl("delete", "pod", "foreign")


def test_a_crash_is_restarted_once_and_then_backed_off(lab: Lab) -> None:
    lab.apply(lab.pod("crash", command=["python", "-c", "print('boom'); raise SystemExit(3)"]))
    lab.until(lambda: waiting(lab, "crash") == "CrashLoopBackOff")
    status = lab.get("pod", "crash")["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=main")
    assert lab.get("pod", "crash")["status"]["phase"] == "Running"
    assert lab.kubectl("logs", "crash", "--previous") == "boom\n"
    lab.until(lambda: "BackOff" in lab.reasons("crash"))


def test_a_command_that_does_not_exist(lab: Lab) -> None:
    lab.apply(lab.pod("typo", command=["pyhton", "-m", "x"], restartPolicy="Never"))
    lab.until(lambda: lab.get("pod", "typo").get("status", {}).get("phase") == "Failed")
    ended = state(lab, "typo")["terminated"]
    assert ended["reason"] == "StartError" and "executable file not found in $PATH" in ended["message"]


def test_a_module_that_does_not_exist(lab: Lab) -> None:
    lab.apply(lab.pod("typo", command=["python", "-m", "no_such_module"], restartPolicy="Never"))
    lab.until(lambda: lab.get("pod", "typo").get("status", {}).get("phase") == "Failed")
    assert "No module named no_such_module" in lab.kubectl("logs", "typo")


def test_init_containers_run_in_order_and_sidecars_outlive_them(lab: Lab) -> None:
    write = "import os, sys, time; open(os.environ['CONTAINER_SANDBOX_MOUNT_POINT'] + '/s/log', 'a').write(sys.argv[1])"
    mounts = [{"name": "s", "mountPath": "/s"}]

    def container(name: str, word: str, **more: object) -> dict[str, object]:
        return {
            "name": name,
            "image": IMAGE,
            "command": ["python", "-c", write, word],
            "volumeMounts": mounts,
            **more,
        }

    stay = container("proxy", "s", restartPolicy="Always")
    stay["command"] = ["python", "-c", f"{write}; time.sleep(1000)", "s"]
    show = "import os; print(open(os.environ['CONTAINER_SANDBOX_MOUNT_POINT'] + '/s/log').read())"
    pod = lab.pod(
        "order",
        command=["python", "-c", show],
        volumes=[{"name": "s", "emptyDir": {}}],
        volumeMounts=mounts,
        restartPolicy="Never",
        initContainers=[container("first", "1"), stay, container("second", "2")],
    )
    lab.apply(pod)
    lab.until(lambda: lab.get("pod", "order").get("status", {}).get("phase") == "Succeeded")
    assert sorted(lab.kubectl("logs", "order", "-c", "main").strip()) in (["1", "2", "s"], ["1", "2"])
    states = {s["name"]: s["state"] for s in lab.get("pod", "order")["status"]["initContainerStatuses"]}
    assert all("terminated" in each for each in states.values())


def test_a_failing_init_container_fails_the_pod(lab: Lab) -> None:
    bad = {"name": "bad", "image": IMAGE, "command": ["python", "-c", "raise SystemExit(1)"]}
    lab.apply(lab.pod("p", command=SERVER, restartPolicy="Never", initContainers=[bad]))
    lab.until(lambda: lab.get("pod", "p").get("status", {}).get("phase") == "Failed")
    assert "waiting" in state(lab, "p")


def test_readiness_follows_the_probe_and_liveness_restarts(lab: Lab) -> None:
    script = """
import http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    sick = set()
    def do_GET(self):
        if self.path.startswith("/sick"):
            Handler.sick.add(self.path.removeprefix("/sick"))
        self.send_response(503 if self.path in Handler.sick else 200)
        self.end_headers()
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""

    def probe(path: str) -> dict[str, object]:
        return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}

    lab.apply(
        lab.pod(
            "p",
            command=["python", "-c", script],
            ports=[{"name": "http", "containerPort": 8080}],
            readinessProbe=probe("/ready"),
            livenessProbe=probe("/live"),
            startupProbe={**probe("/start"), "failureThreshold": 30},
        )
    )
    lab.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    address = lab.get("pod", "p")["status"]["podIP"]

    def ask(path: str) -> None:
        import urllib.request

        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{address}:8080{path}")

    ask("/sick/ready")
    lab.kubectl("wait", "--for=condition=Ready=false", "pod/p", "--timeout=10s")
    ask("/sick/live")
    lab.until(lambda: lab.get("pod", "p")["status"]["containerStatuses"][0]["restartCount"] == 1)
    lab.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    assert {"Unhealthy", "Killing"} <= lab.reasons("p")


def test_exec_and_tcp_probes_and_a_grpc_probe_that_is_refused(lab: Lab) -> None:
    period = {"periodSeconds": 1}
    lab.apply(
        lab.pod("tcp", command=SERVER, readinessProbe={"tcpSocket": {"port": 8080}, **period}),
        lab.pod(
            "exec", command=SERVER, readinessProbe={"exec": {"command": ["python", "-c", "pass"]}, **period}
        ),
        lab.pod("grpc", command=SERVER, readinessProbe={"grpc": {"port": 8080}, **period}),
    )
    lab.kubectl("wait", "--for=condition=Ready", "pod/tcp", "pod/exec", "--timeout=15s")
    lab.until(lambda: "Unhealthy" in lab.reasons("grpc"))


def test_pre_stop_runs_before_the_end(lab: Lab) -> None:
    hook = {
        "preStop": {
            "exec": {"command": ["python", "-c", "import os; os.kill(os.getppid(), 0); print('hook')"]}
        }
    }
    lab.apply(lab.pod("p", command=SERVER, lifecycle=hook, readinessProbe=READY))
    lab.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    lab.kubectl("delete", "pod", "p", "--timeout=10s")


def test_an_injected_pod_has_an_inside_address(lab: Lab) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "both",
            "annotations": {"sidecar.istio.io/status": json.dumps({"containers": ["istio-proxy"]})},
        },
        "spec": pod_spec(command=SERVER, readinessProbe=READY),
    }
    show = "import os, time; print(os.environ['LAB_BIND_ADDRESS'], os.environ['LAB_APP_ADDRESS']); time.sleep(99)"
    pod["spec"]["containers"].append(
        {"name": "istio-proxy", "image": IMAGE, "command": ["python", "-c", show]}
    )
    lab.apply(pod)
    lab.kubectl("wait", "--for=condition=Ready", "pod/both", "--timeout=10s")
    address = lab.get("pod", "both")["status"]["podIP"]
    bind, app = lab.until(lambda: lab.run("logs", "both", "-c", "istio-proxy").stdout.split())
    assert bind == address != app


def test_post_start_runs_beside_the_container_and_may_end_it(lab: Lab) -> None:
    touch = {"postStart": {"exec": {"command": ["touch", "greeting"]}}}
    wait = "import pathlib, time\nwhile not pathlib.Path('greeting').exists(): time.sleep(0.01)\n"
    lab.apply(
        lab.pod("good", command=["python", "-c", wait], lifecycle=touch, restartPolicy="Never"),
        lab.pod("bad", command=SERVER, lifecycle={"postStart": {"exec": {"command": ["false"]}}}),
    )
    lab.until(lambda: lab.get("pod", "good").get("status", {}).get("phase") == "Succeeded")
    lab.until(lambda: "FailedPostStartHook" in lab.reasons("bad"))


def test_what_has_no_effect_is_said(lab: Lab) -> None:
    lab.apply(
        lab.pod("p", command=SERVER, hostNetwork=True, ports=[{"containerPort": 8080, "hostPort": 8080}])
    )
    lab.until(lambda: "Unsupported" in lab.reasons("p"))
