"""`pods/NAME/log` reads the files that a kubelet writes."""

import threading
from pathlib import Path
from typing import Any

import pytest

from cluster.embedded.logs import Wish, text_of

Object = dict[str, Any]


@pytest.fixture
def pod(api: Any, namespace: str) -> Object:
    """A pod whose container runs, and its log."""
    spec = {"containers": [{"name": "app", "image": "a:1"}, {"name": "side", "image": "b:1"}]}
    made = api.must("POST", f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": "p"}, "spec": spec})
    set_state(api, made, {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    return dict(made)


def set_state(api: Any, pod: Object, state: Object, restarts: int = 0) -> None:
    status = {
        "name": "app",
        "image": "a:1",
        "imageID": "",
        "ready": True,
        "restartCount": restarts,
        "state": state,
    }
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/p/status"
    patch = {"status": {"containerStatuses": [status]}}
    api.must("PATCH", path, patch, media="application/merge-patch+json")


def log_file(api: Any, pod: Object, restart: int = 0) -> Path:
    meta = pod["metadata"]
    folder = Path(api.state) / "pods" / f"{meta['namespace']}_{meta['name']}_{meta['uid']}" / "app"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{restart}.log"


def lines(first: int, last: int) -> str:
    return "".join(f"2026-01-01T00:00:{i:02}.000000000Z stdout F line {i}\n" for i in range(first, last + 1))


def test_whole_tail_previous_timestamps(api: Any, pod: Object) -> None:
    log_file(api, pod).write_text(lines(1, 2))
    log_file(api, pod, 1).write_text(lines(3, 9) + "2026-01-01T00:00:10Z stderr F unfinis")
    where = ("-n", pod["metadata"]["namespace"], "logs", "p", "-c", "app")
    assert api.kubectl(*where, "--tail=2") == "line 8\nline 9\n"
    assert api.kubectl(*where, "-p") == "line 1\nline 2\n"
    assert api.kubectl(*where, "--timestamps", "--tail=1") == "2026-01-01T00:00:09.000000000Z line 9\n"
    assert api.kubectl(*where, "--since-time=2026-01-01T00:00:08Z") == "line 8\nline 9\n"


def test_follow_until_the_container_ends(api: Any, pod: Object) -> None:
    file = log_file(api, pod)
    file.write_text(lines(1, 1))
    base = (
        f"{api.server}/api/v1/namespaces/{pod['metadata']['namespace']}/pods/p/log?container=app&follow=true"
    )
    answer = api.http.request(
        "GET", base, headers={"Authorization": f"Bearer {api.token}"}, preload_content=False
    )
    assert answer.read1(100) == b"line 1\n"
    with file.open("a") as more:
        more.write(lines(2, 2))
    assert answer.read1(100) == b"line 2\n"
    threading.Thread(target=set_state, args=(api, pod, {"terminated": {"exitCode": 0}})).start()
    assert answer.read() == b""


def test_refusals(api: Any, pod: Object, namespace: str) -> None:
    base = f"/api/v1/namespaces/{namespace}/pods/p/log"
    assert "choose one of: [app side]" in api.call("GET", base)[1]["message"]
    assert "container x is not valid for pod p" in api.call("GET", f"{base}?container=x")[1]["message"]
    waiting = api.call("GET", f"{base}?container=side")[1]["message"]
    assert waiting == 'container "side" in pod "p" is waiting to start: ContainerCreating'
    assert (
        "previous terminated container"
        in api.call("GET", f"{base}?container=app&previous=true")[1]["message"]
    )
    assert api.call("GET", f"{base}?container=app&tailLines=x")[0] == 400


def test_parts_of_a_line_are_joined() -> None:
    assert text_of(b"T stdout P half \n", Wish()) + text_of(b"T stdout F line\n", Wish()) == b"half line\n"
