"""Starting one container of a pod, or saying why it cannot be started."""

from __future__ import annotations

import time
from pathlib import Path

from cluster.embedded.kubelet import images, plan, watch
from cluster.embedded.kubelet.context import PodContext
from cluster.embedded.kubelet.environment import ConfigError, command, environment
from cluster.embedded.kubelet.files import MountError
from cluster.embedded.kubelet.plan import Ended, Record, Running, Waiting
from cluster.embedded.kubelet.runtime import StartError


async def start(context: PodContext, record: Record) -> None:
    """Start a container, or note why it cannot be."""
    if not _image_ok(context, record):
        return
    before = record.restarts
    if record.last is not None:
        record.restarts += 1
    try:
        root = context.volumes.make_root(record.spec)
        place = context.place(record, root)
        env = await environment(context.pod, record.spec, place, context.services(), context.host.lookup)
    except (ConfigError, MountError) as error:
        record.restarts = before
        _blocked(context, record, "CreateContainerConfigError", str(error))
        return
    context.event("Normal", "Created", f"Created container: {record.name}", record)
    cwd = _working_directory(record, root)
    begun = time.time()
    try:
        process = await context.host.runtime.spawn(command(record.spec, env), env, cwd, context.log(record))
    except StartError as error:
        message = f"failed to create containerd task: failed to start container: {error}"
        context.event("Warning", "Failed", f"Error: {message}", record)
        plan.note_end(record, Ended(128, "StartError", begun, time.time(), message=message))
        return
    record.state = Running(begun)
    context.processes[record.name] = process
    context.launched[record.name] = (env, cwd)
    context.event("Normal", "Started", f"Started container {record.name}", record)
    watch.begin(context, record, process, env, cwd)


def _image_ok(context: PodContext, record: Record) -> bool:
    image = record.spec.get("image", "")
    if images.runnable(image, context.host.image):
        context.event("Normal", "Pulled", f'Container image "{image}" already present on machine', record)
        return True
    message = images.pull_error(image, context.host.image)
    context.event("Warning", "Failed", message, record)
    _blocked(context, record, "ErrImagePull", message)
    return False


def _blocked(context: PodContext, record: Record, reason: str, message: str) -> None:
    context.event("Warning", "Failed", f"Error: {message if reason != 'ErrImagePull' else reason}", record)
    plan.note_blocked(record, Waiting(reason, message), time.time())


def _working_directory(record: Record, root: Path) -> Path:
    """workingDir below the container's root; else the root itself, as an image without WORKDIR has it."""
    given = record.spec.get("workingDir")
    if not given:
        return root
    inside = root / given.strip("/")
    if not inside.exists() and not Path(given).is_dir():
        inside.mkdir(parents=True)
    return inside if inside.exists() else Path(given)
