"""`mesh inject`: YAML as it would be stored, its pods with their sidecars; what the webhook does, to look at."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from cluster import documents
from cluster.api import Object
from cluster.embedded.patch import json_patch
from mesh import manifests
from mesh.cli.objects import text_of
from mesh.cli.output import CliError, print_json
from mesh.control.inject import InjectError, Injection, inject, wants_sidecar
from mesh.control.world import MeshConfig

TEMPLATED = ("Deployment", "ReplicaSet", "Job", "StatefulSet", "DaemonSet")
"""Kinds with a pod template at spec.template."""


def add_to(commands: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the command to the grammar."""
    command = commands.add_parser("inject", parents=parents, help="show YAML with its sidecars")
    command.add_argument("-f", "--filename", required=True, help="a file, or - for standard input")
    command.add_argument("-n", "--namespace", default="default", help="of objects that name none")
    command.add_argument(
        "--interception",
        choices=("NONE", "REDIRECT"),
        default="NONE",
        help="how traffic gets into the sidecar: by http_proxy (default) or by rules of the kernel",
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the objects, injected where they have pods that want a sidecar."""
    found = documents.read(text_of(args.filename), args.filename)
    config = MeshConfig(interception=args.interception)
    injected = [with_sidecar(obj, args.namespace, config) for obj in found]
    if args.json:
        print_json({"apiVersion": "v1", "kind": "List", "items": injected})
    else:
        print(yaml.safe_dump_all(injected, sort_keys=False), end="")


def with_sidecar(obj: Object, namespace: str, config: MeshConfig) -> Object:
    """The object with a sidecar in its pod, as in a namespace labelled for injection. Raises CliError."""
    namespace = obj["metadata"].get("namespace") or namespace
    if obj["kind"] == "Pod":
        return _patched(obj, namespace, config)
    if obj["kind"] in TEMPLATED:
        template = _patched(obj["spec"]["template"], namespace, config)
        return {**obj, "spec": {**obj["spec"], "template": template}}
    return obj


def _patched(pod: Object, namespace: str, config: MeshConfig) -> Object:
    if not wants_sidecar(pod, namespace, {"istio-injection": "enabled"}):
        return pod
    try:
        patch = inject(pod, namespace, config, Injection(image=manifests.IMAGE))
    except InjectError as error:
        raise CliError(str(error)) from error
    injected: Object = json_patch(pod, patch)
    return injected
