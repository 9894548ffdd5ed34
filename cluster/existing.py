"""A cluster that somebody else made: any context of a kubeconfig, named explicitly, never the current one by accident.

The mesh is installed into it like anywhere; ending it removes what we installed and nothing else. The image comes
from a registry the user names, or is one that the nodes can already get.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cluster import engine as engines
from cluster import image as images
from cluster import preflight, records, steps
from cluster.api import Api, ApiError, Object
from cluster.base import ClusterError, Interception
from cluster.engine import CommandError, last_line
from cluster.records import Record
from cluster.settings import IMAGE, REGISTRY, Settings
from mesh import manifests

BACKEND = "context"
PREFIX = "context:"
GONE_SECONDS = 120.0


@dataclass
class ExistingCluster:
    """A cluster with our mesh in it."""

    record: Record

    @property
    def backend(self) -> str:
        return PREFIX + self.record.fact("context")

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
        return 0

    def reach(self, node_port: int) -> str:
        """Nobody knows a better way than the node's own address."""
        return ""

    def provide_image(self, image: str) -> str:
        """Pushed at the start, or there already."""
        return self.record.fact("image")

    def own(self, pid: int) -> None:
        """Stay until `mesh down`, unless this very process goes on owning it."""
        keep = self.record.owner is not None and self.record.owner.pid == pid
        self.record = replace(self.record, owner=self.record.owner if keep else None)
        self.record.write()

    def memory(self) -> int | None:
        return None

    def stop(self) -> None:
        """Uninstall; a second call does nothing."""
        if self.record.directory.exists():
            uninstall(self.record)


def start(
    context: str, name: str, version: str, settings: Settings, owner: int, progress: steps.Progress
) -> ExistingCluster:
    """Check a context and make the image available to it. Raises ClusterError; nothing is then left behind."""
    making = _Making(context, name, version, settings, owner)
    steps.run(
        [
            steps.Step(f"check the cluster of context {context}", making.check, making.undo),
            steps.Step("provide the image", making.image),
        ],
        progress,
    )
    return ExistingCluster(making.record)


class _Making:
    def __init__(self, context: str, name: str, version: str, settings: Settings, owner: int) -> None:
        self.context, self.version, self.settings = context, version, settings
        self.record = Record(BACKEND, name, owner=records.Owner.of(owner)).with_facts(
            context=context, interception=settings.interception
        )
        self._written = False

    def check(self) -> None:
        old = records.read(BACKEND, self.record.name)
        if old is not None and not old.abandoned:
            raise ClusterError(
                f'"{old.name}" is installed in context {old.fact("context")} already: end it with `mesh down`, or '
                "choose another --name"
            )
        if not self.settings.image and not self.settings.registry:
            raise ClusterError(
                f"an existing cluster needs the lab's image: name a registry to push it to (--registry or {REGISTRY}), "
                f"or an image that its nodes can get (--image or {IMAGE})"
            )
        text = yaml.safe_dump(of_context(kubeconfig_path(), self.context))
        self.record.write()
        self._written = True
        self.record.kubeconfig.touch(0o600)
        self.record.kubeconfig.write_text(text)
        api = Api(self.record.kubeconfig)
        try:
            preflight.kubernetes(api)
            preflight.may_install(api)
            if preflight.claimed(api) is not None:
                raise ClusterError(
                    f"context {self.context}: namespace mesh-system is there already; a mesh of another machine? "
                    "End that one first"
                )
            if self.settings.interception == "REDIRECT":
                preflight.net_admin(api, manifests.SHOP_NAMESPACE)
        finally:
            api.close()

    def image(self) -> None:
        name = self.settings.image or push(self.settings, self.version)
        self.record = replace(self.record.with_facts(image=name), state="ready")
        self.record.write()

    def undo(self) -> None:
        if self._written:
            self.record.forget()


def push(settings: Settings, version: str) -> str:
    """Build the image and push it to the registry; its name there. Raises ClusterError."""
    engine = engines.find()
    local = images.ensure(engine, version, settings.base_image)
    name = f"{settings.registry}/{local}"
    engine.run("tag", local, name, what="tag the image")
    try:
        engine.run("push", name, what="push the image")
    except CommandError as error:
        raise ClusterError(
            f"{name} cannot be pushed ({last_line(error.said)}): log in with `{engine.program} login`, or name an "
            "image that is there already with --image"
        ) from error
    return name


def find(name: str) -> ExistingCluster | None:
    """Our installation of that name; None where we made none."""
    record = records.read(BACKEND, name)
    return ExistingCluster(record) if record is not None and record.state == "ready" else None


# --- kubeconfig ---------------------------------------------------------------------------------------------


def kubeconfig_path() -> Path:
    """The user's kubeconfig: the first file of $KUBECONFIG, else ~/.kube/config."""
    given = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return Path(given[0]) if given else Path.home() / ".kube" / "config"


def of_context(path: Path, context: str) -> dict[str, Any]:
    """A kubeconfig with this context only, and as its current one. Raises ClusterError."""
    try:
        config = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ClusterError(f"kubeconfig {path} cannot be read: {error}") from error
    contexts = {each["name"]: each for each in config.get("contexts") or []}
    if context not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        raise ClusterError(f'kubeconfig {path} has no context "{context}"; it has: {known}')
    said = contexts[context]["context"]
    cluster = _named(config, "clusters", said["cluster"], path)
    user = _named(config, "users", said["user"], path)
    for part in (cluster["cluster"], user["user"]):
        for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if key in part:
                part[key] = str((path.parent / part[key]).absolute())
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [contexts[context]],
        "clusters": [cluster],
        "users": [user],
    }


def _named(config: dict[str, Any], part: str, name: str, path: Path) -> dict[str, Any]:
    for each in config.get(part) or []:
        if each["name"] == name:
            return dict(each)
    raise ClusterError(f'kubeconfig {path}: {part} has no "{name}", which the context names')


def default_name(context: str) -> str:
    """A context's name as a directory may be called."""
    return re.sub(r"[^a-z0-9]+", "-", context.lower()).strip("-")[:42]


# --- the end ------------------------------------------------------------------------------------------------


def uninstall(record: Record) -> None:
    """Remove all that was installed, last first. Raises ClusterError where something stays."""
    api = Api(record.kubeconfig)
    try:
        remove_everything(api)
    except ApiError as error:
        raise ClusterError(
            f"context {record.fact('context')}: {preflight.unreachable(api, error)}"
        ) from error
    finally:
        api.close()
    record.forget()


def remove_everything(api: Api) -> None:
    """Delete our objects, what they made (root certificates in every namespace), and our label on `default`."""
    ours = [*manifests.mesh(), *manifests.shop(), *manifests.shop_gateway(), *manifests.visitors()]
    keep = ("Namespace", manifests.SHOP_NAMESPACE)
    for obj in [*_webhooks(ours), *reversed(ours)]:
        if (obj["kind"], obj["metadata"]["name"]) != keep:
            _delete(api, obj)
    for obj in manifests.crds():
        _delete(api, obj)
    for each in api.list("v1", "ConfigMap", None, fieldSelector="metadata.name=istio-ca-root-cert"):
        _delete(api, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": each["metadata"]})
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": manifests.SHOP_NAMESPACE}}
    api.patch(namespace, {"metadata": {"labels": {"istio-injection": None}}})
    _wait_until_gone(api, (manifests.SYSTEM_NAMESPACE, manifests.VISITORS_NAMESPACE))


def _webhooks(objects: Iterable[Object]) -> list[Object]:
    """They go first: without a control plane behind them they would refuse what we do next."""
    return [obj for obj in objects if obj["kind"].endswith("WebhookConfiguration")]


def _delete(api: Api, obj: Object) -> None:
    try:
        api.delete(obj)
    except ApiError as error:
        if error.code != 404:
            raise


def _wait_until_gone(api: Api, namespaces: tuple[str, ...]) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    for name in namespaces:
        while api.get("v1", "Namespace", name) is not None:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"namespace {name} is still being removed after {GONE_SECONDS:.0f} s: look at its conditions with "
                    f"`kubectl get namespace {name} -o yaml`"
                )
            time.sleep(0.3)
