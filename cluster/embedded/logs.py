"""`kubectl logs`: the files that the kubelet writes, sent as they grow.

    STATE_DIR/pods/NAMESPACE_NAME_UID/CONTAINER/RESTART.log     lines of the CRI format: TIME STREAM TAG TEXT

(TAG is F for a whole line, P for a part that goes on in the next.) Following ends when the container's state
says so and the file is read to its end.
"""

import asyncio
import datetime
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cluster.embedded.call import Call
from cluster.embedded.status import Object, bad_request
from cluster.embedded.store import Store

POLL_SECONDS = 0.1
"""How often a followed file is looked at; there is no portable event for a file that grows."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a log is wanted."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: str = ""
    limit: int | None = None


def read_wish(call: Call) -> Wish:
    """The options of `pods/log`. Raises BadRequest."""

    def number(name: str) -> int | None:
        text = call.query.get(name)
        if text is None:
            return None
        if not text.isdecimal():
            raise bad_request(f'{name}: Invalid value: "{text}": must be a number from 0 up')
        return int(text)

    seconds, since = number("sinceSeconds"), call.query.get("sinceTime", "")
    if seconds is not None:
        moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
        since = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return Wish(
        call.flag("follow"), call.flag("timestamps"), number("tailLines"), since, number("limitBytes")
    )


def _all_statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def find_container(pod: Object, asked: str) -> Object:
    """The status of the container whose log is wanted. Raises BadRequest in kubelet's words."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    mains = [container["name"] for container in spec["containers"]]
    names = [*(container["name"] for container in spec.get("initContainers") or []), *mains]
    if not asked and len(mains) > 1:
        chosen = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
        if chosen not in names:
            why = f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
            raise bad_request(why)
        asked = str(chosen)
    asked = asked or mains[0]
    if asked not in names:
        raise bad_request(f"container {asked} is not valid for pod {name}")
    found = next((status for status in _all_statuses(pod) if status["name"] == asked), None)
    waiting = ((found or {}).get("state") or {}).get("waiting")
    if found is None or (waiting is not None and not found.get("restartCount")):
        reason = (waiting or {}).get("reason", "ContainerCreating")
        raise bad_request(f'container "{asked}" in pod "{name}" is waiting to start: {reason}')
    return found


def file_of(state: Path, pod: Object, container: Object, previous: bool) -> Path:
    """The log file of a container's present (or previous) run. Raises BadRequest if there is none."""
    meta = pod["metadata"]
    folder: Path = state / "pods" / f"{meta['namespace']}_{meta['name']}_{meta['uid']}" / container["name"]
    runs = sorted((int(path.stem) for path in folder.glob("*.log") if path.stem.isdecimal()), reverse=True)
    if previous:
        runs = runs[1:]
    if not runs:
        which = "previous terminated" if previous else "started"
        raise bad_request(f'{which} container "{container["name"]}" in pod "{meta["name"]}" not found')
    return folder / f"{runs[0]}.log"


def text_of(line: bytes, wish: Wish) -> bytes:
    """A CRI line as the reader wants it; b"" for one that is too old."""
    parts = line.split(b" ", 3)
    if len(parts) < 4:
        return line
    moment, _, tag, text = parts
    if wish.since and moment.decode(errors="replace")[: len(wish.since)] < wish.since.rstrip("Z"):
        return b""
    if tag.startswith(b"P"):
        text = text.removesuffix(b"\n")
    return moment + b" " + text if wish.timestamps else text


def _past(file: BinaryIO, wish: Wish) -> list[bytes]:
    """The complete lines that are there, the last `tail` of them."""
    lines: deque[bytes] = deque(maxlen=wish.tail)
    for line in file:
        if not line.endswith(b"\n"):
            file.seek(-len(line), 1)
            break
        lines.append(line)
    return list(lines)


async def read(path: Path, wish: Wish, running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log's text in pieces; with `follow`, as it is written, until `running` says no and all is read."""
    left = wish.limit
    with path.open("rb") as file:
        while True:
            last = not wish.follow or not running()
            lines = _past(file, wish)
            wish = Wish(wish.follow, wish.timestamps, None, wish.since, wish.limit)
            piece = b"".join(text_of(line, wish) for line in lines)
            if left is not None:
                piece, left = piece[:left], left - len(piece[:left])
            if piece:
                yield piece
            if last or left == 0:
                return
            await asyncio.sleep(POLL_SECONDS)


def is_running(store: Store, pod: Object, container: str, run: int) -> bool:
    """Is the container of that pod still in its run number `run`, as far as the API knows?"""
    entry = store.find("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
    if entry is None or entry.object["metadata"]["uid"] != pod["metadata"]["uid"]:
        return False
    status = next((s for s in _all_statuses(entry.object) if s["name"] == container), {})
    return "running" in (status.get("state") or {}) and status.get("restartCount", 0) <= run


def open_log(store: Store, state: Path, call: Call) -> AsyncIterator[bytes]:
    """The pieces to answer `pods/NAME/log` with. Raises NotFound, BadRequest."""
    pod = store.get("pods", call.target.namespace, call.target.name).object
    container = find_container(pod, call.query.get("container", ""))
    path = file_of(state, pod, container, call.flag("previous"))
    return read(path, read_wish(call), lambda: is_running(store, pod, container["name"], int(path.stem)))
