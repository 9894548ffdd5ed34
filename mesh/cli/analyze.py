"""`mesh analyze`: what is doubtful in files, in the running mesh, or in the mesh as it would be with the files.

The same findings, with Istio's codes, that the control plane writes into warnings and `status`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from cluster import documents
from cluster import up as lifecycle
from cluster.api import Api, Object
from mesh.cli.objects import text_of
from mesh.cli.output import print_json
from mesh.control.analyze import Finding, analyze
from mesh.control.assemble import KIND_OF, Assembler
from mesh.control.kube import CONFIG_MAPS, ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES, Resource
from mesh.control.watch import key_of

PLAIN_KINDS = {
    "Namespace": NAMESPACES,
    "Service": SERVICES,
    "Pod": PODS,
    "EndpointSlice": ENDPOINT_SLICES,
    "ConfigMap": CONFIG_MAPS,
}
RESOURCE_OF = PLAIN_KINDS | {kind: resource for resource, kind in KIND_OF.items()}
NOT_VALID = "IST0106"
"""Istio's SchemaValidationError."""


def add_to(commands: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the command to the grammar."""
    command = commands.add_parser("analyze", parents=parents, help="what is doubtful in files or in the mesh")
    command.add_argument("files", nargs="*", metavar="FILE", help="YAML to look at as if it were applied")
    command.add_argument("-n", "--namespace", default="default", help="of objects that name none")
    command.add_argument("--no-cluster", action="store_true", help="look at the files alone")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; exit status 1 when one of them is an error."""
    written = [obj for file in args.files for obj in documents.read(text_of(file), file, args.namespace)]
    stored = [] if args.no_cluster else everything(lifecycle.attach(args.name).api)
    findings = find([*stored, *written])
    if args.json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    elif findings:
        print("\n".join(str(finding) for finding in findings))
    else:
        print("nothing is doubtful")
    return int(any(finding.level == "Error" for finding in findings))


def everything(api: Api) -> list[Object]:
    """All objects of the cluster that the mesh looks at. Raises ApiError."""
    return [
        {**item, "kind": kind}
        for kind, resource in RESOURCE_OF.items()
        for item in api.request("GET", resource.path())[0]["items"]
    ]


def find(objects: Iterable[Object]) -> list[Finding]:
    """The findings about these objects; a later one replaces an earlier one of the same name. Pure."""
    assembler = Assembler()
    for obj in objects:
        resource = RESOURCE_OF.get(obj["kind"])
        if resource is not None and _is_ours(resource, obj):
            assembler.apply(resource, {key_of(obj): obj})
    wrong = [
        Finding(NOT_VALID, "Error", kind, namespace, name, problem.path, problem.sentence)
        for (kind, namespace, name), invalid in assembler.invalid.items()
        for problem in invalid.problems
    ]
    return [*wrong, *analyze(assembler.world)]


def _is_ours(resource: Resource, obj: Object) -> bool:
    """Of ConfigMaps only the mesh's own says anything."""
    return resource is not CONFIG_MAPS or key_of(obj) == (lifecycle.SYSTEM, "mesh")
