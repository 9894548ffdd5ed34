"""Clusters of kind: Kubernetes in containers of this machine, made and ended through pytest-kind's `KindCluster`.

Ordered steps, each undone when a later one fails: preflight, image, create, load, wait. What is ours stands in a
record (`records`), and only that is ever deleted.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pytest_kind import KindCluster as PytestKind

from cluster import engine as engines
from cluster import image as images
from cluster import kindbinary, preflight, records, steps
from cluster.api import Api, ApiError
from cluster.base import ClusterError, Interception
from cluster.engine import Engine
from cluster.kindconfig import GATEWAY_NODE_PORT, config
from cluster.records import Owner, Record
from cluster.settings import Settings

BACKEND = "kind"
READY_SECONDS = 240.0
"""Time the nodes have to become ready after kind has made them."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")


@dataclass
class KindCluster:
    """A kind cluster of ours."""

    record: Record

    @property
    def backend(self) -> str:
        return BACKEND

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def kubeconfig(self) -> Path:
        return self.record.kubeconfig

    @property
    def interception(self) -> Interception:
        return "NONE" if self.record.fact("interception") == "NONE" else "REDIRECT"

    @property
    def gateway_node_port(self) -> int:
        return GATEWAY_NODE_PORT

    def reach(self, node_port: int) -> str:
        """kind maps the gateway's port to one of this machine."""
        return f"http://127.0.0.1:{self.record.fact('host_port')}"

    def provide_image(self, image: str) -> str:
        """Built and loaded at the start; its name has the content in it."""
        return self.record.fact("image")

    def own(self, pid: int) -> None:
        """Stay until `mesh down` when another process is to own it: containers outlive shells. See `mesh sweep`."""
        keep = self.record.owner is not None and self.record.owner.pid == pid
        self.record = replace(self.record, owner=self.record.owner if keep else None)
        self.record.write()

    def memory(self) -> int | None:
        """Nobody can tell from outside the containers."""
        return None

    def stop(self) -> None:
        """Delete the cluster; a second call does nothing."""
        if self.record.directory.exists():
            delete(self.record)


def start(name: str, version: str, settings: Settings, owner: int, progress: steps.Progress) -> KindCluster:
    """Make a cluster with the lab's image in its nodes. Raises ClusterError; nothing is then left behind."""
    making = _Making(name, version, settings, owner)
    steps.run(making.steps(), progress)
    return KindCluster(making.record)


class _Making:
    """One start: what the steps share."""

    def __init__(self, name: str, version: str, settings: Settings, owner: int) -> None:
        self.name, self.version, self.settings = name, version, settings
        self.record = Record(BACKEND, name, owner=Owner.of(owner))
        self.engine: Engine | None = None
        self.tool: PytestKind | None = None
        self.image = ""

    def steps(self) -> list[steps.Step]:
        undo = self.undo
        return [
            steps.Step("check Docker, memory and disk", self.check),
            steps.Step("build the image", self.build),
            steps.Step("create the kind cluster", self.create, undo),
            steps.Step("load the image", self.load),
            steps.Step("wait for the nodes", self.wait),
        ]

    def check(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ClusterError(
                f"cluster name {self.name!r}: use lower case letters, digits and '-', 42 at most"
            )
        self.engine = engines.find()
        preflight.memory(self.engine, 1 + self.settings.workers)
        preflight.disk(self.engine)
        preflight.inotify(1 + self.settings.workers)
        program = kindbinary.program()
        self._name_is_free(program)
        if self.settings.node_image and not self.engine.has_image(self.settings.node_image):
            self.engine.pull(self.settings.node_image)

    def _name_is_free(self, program: Path) -> None:
        old = records.read(BACKEND, self.name)
        if old is not None and not old.abandoned and self.name in clusters(program, self._the_engine):
            raise ClusterError(
                f'cluster "{self.name}" already runs: use it, end it with `mesh down`, or choose another name'
            )
        if old is not None:
            delete(old)  # half-made, or its owner died
        if self.name in clusters(program, self._the_engine):
            raise ClusterError(
                f'a kind cluster "{self.name}" is there that the lab did not make: choose another --name, or use it '
                f"with --backend context:kind-{self.name}"
            )

    @property
    def _the_engine(self) -> Engine:
        assert self.engine is not None
        return self.engine

    def build(self) -> None:
        self.image = images.ensure(self._the_engine, self.version, self.settings.base_image)

    def create(self) -> None:
        port = free_port()
        self.record = self.record.with_facts(
            engine=self._the_engine.program,
            image=self.image,
            host_port=str(port),
            interception=self.settings.interception,
        )
        self.record.write()
        file = self.record.directory / "kind.yaml"
        file.write_text(yaml.safe_dump(config(port, self.settings.workers), sort_keys=False))
        self.tool = tool(self.record, kindbinary.program(), self.settings.node_image)
        _told(self.record, lambda: self._create_with(file))

    def _create_with(self, file: Path) -> None:
        assert self.tool is not None
        self.tool.create(file)

    def load(self) -> None:
        assert self.tool is not None
        if self._the_engine.program == "docker":
            _told(self.record, lambda: self.tool and self.tool.load_docker_image(self.image))
            return
        archive = self.record.directory / "image.tar"  # kind can load by name from Docker only
        try:
            self._the_engine.run("save", "--output", str(archive), self.image, what="save the image")
            engines.run(
                [str(self.tool.kind_path), "load", "image-archive", str(archive), "--name", self.name],
                "load the image",
                timeout=600,
            )
        finally:
            archive.unlink(missing_ok=True)

    def wait(self) -> None:
        api = Api(self.record.kubeconfig)
        try:
            wait_for_nodes(api, READY_SECONDS)
            preflight.kubernetes(api)
        finally:
            api.close()
        self.record = replace(self.record, state="ready")
        self.record.write()

    def undo(self) -> None:
        delete(self.record)


def find(name: str) -> KindCluster | None:
    """Our cluster of that name; None where we made none, or it is half-made."""
    record = records.read(BACKEND, name)
    if record is None or record.state != "ready" or not record.kubeconfig.exists():
        return None
    return KindCluster(record)


def sweep() -> list[str]:
    """Delete what crashes left: half-made clusters, and those whose owner is gone. Their names."""
    gone = [record for record in records.every(BACKEND) if record.abandoned]
    for record in gone:
        delete(record)
    return [record.name for record in gone]


def delete(record: Record) -> None:
    """Delete a cluster of ours and its record. Raises ClusterError when kind cannot."""
    if record.fact("engine"):
        made = tool(record, kindbinary.program(), "")
        _told(record, made.delete)
    record.forget()


def clusters(program: Path, engine: Engine) -> set[str]:
    """The names of all kind clusters of that engine, ours or not."""
    said = engines.run(
        [str(program), "get", "clusters"], "kind", timeout=60, env={engines.PROVIDER: engine.program}
    )
    return set(said.split())


def tool(record: Record, program: Path, node_image: str) -> PytestKind:
    """pytest-kind's handle on a cluster.

    It keeps files in a directory of its own below the current one, so it is made in the record's. It runs kind
    without looking at what kind says: so its kind is a script that notes that, and names the engine.
    """
    record.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    script = record.directory / "kind"
    script.write_text(
        f"#!/bin/sh\nexport {engines.PROVIDER}={shlex.quote(record.fact('engine'))}\n"
        f'exec {shlex.quote(str(program))} "$@" 2>>{shlex.quote(str(_log(record)))}\n'
    )
    script.chmod(0o700)
    kubectl = Path(shutil.which("kubectl") or record.directory / "kubectl-is-not-installed")
    with contextlib.chdir(record.directory):
        return PytestKind(
            record.name,
            kubeconfig=record.kubeconfig,
            image=node_image or None,
            kind_path=script,
            kubectl_path=kubectl,
        )


def _log(record: Record) -> Path:
    return record.directory / "kind.log"


def _told(record: Record, act: Callable[[], object]) -> None:
    """Let pytest-kind do something; if kind fails, say why in one sentence. Raises ClusterError."""
    try:
        act()
    except subprocess.CalledProcessError as error:
        log = _log(record)
        said = log.read_text(errors="replace") if log.exists() else ""
        raise ClusterError(preflight.kind_says(said, record.name)) from error


def wait_for_nodes(api: Api, seconds: float) -> None:
    """Raises ClusterError that names the node which is not ready, and why."""
    deadline = time.monotonic() + seconds
    problem = "the API server does not answer"
    while time.monotonic() < deadline:
        try:
            waiting = [text for node in api.list("v1", "Node") if (text := not_ready(node))]
            if not waiting:
                return
            problem = waiting[0]
        except ApiError as error:
            problem = str(error)
        time.sleep(0.5)
    raise ClusterError(f"the cluster is not ready after {seconds:.0f} s: {problem}")


def not_ready(node: dict[str, object]) -> str:
    """Why a node takes no pods yet; empty when it does."""
    metadata, status = dict(node["metadata"]), dict(node["status"])  # type: ignore[call-overload]
    for condition in status.get("conditions") or []:
        if condition["type"] == "Ready":
            if condition["status"] == "True":
                return ""
            return f"node {metadata['name']}: {condition.get('message') or condition.get('reason')}"
    return f"node {metadata['name']} has not reported yet"


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
