"""`mesh apply` and `mesh get`: Kubernetes objects in and out, for whoever has no kubectl at hand."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from cluster import documents
from cluster import up as lifecycle
from cluster.api import Api, ApiError, Object
from mesh.cli.output import CliError, print_json, print_table, warn

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def add_to(commands: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the two commands to the grammar."""
    apply = commands.add_parser("apply", parents=parents, help="apply YAML: all of it, or nothing")
    apply.add_argument("-f", "--filename", required=True, help="a file, or - for standard input")
    apply.add_argument("-n", "--namespace", default="default")
    apply.set_defaults(run=run_apply)
    get = commands.add_parser("get", parents=parents, help="show objects of a kind")
    get.add_argument("kind", help="a kind, plural or short name, such as virtualservice or vs")
    get.add_argument("object", nargs="?", help="one object's name")
    get.add_argument("-n", "--namespace", default="default")
    get.add_argument("-A", "--all-namespaces", action="store_true")
    get.add_argument("-o", "--output", choices=("table", "yaml", "json"), default="table")
    get.set_defaults(run=run_get)


def run_apply(args: argparse.Namespace) -> None:
    """Check every document with a dry run first, so that a refused one changes nothing; then apply them."""
    objects = documents.read(text_of(args.filename), args.filename, args.namespace)
    api = lifecycle.attach(args.name).api
    dry_run(api, objects)
    applied = []
    for obj in objects:
        stored, warnings = _apply(api, obj)
        warn(warnings)
        applied.append(stored)
        if not args.json:
            print(f"{label(obj)} applied")
    if args.json:
        print_json([{"kind": o["kind"], "name": o["metadata"]["name"]} for o in applied])


def dry_run(api: Api, objects: list[Object]) -> None:
    """Raise CliError for the first object the API server would refuse."""
    new_namespaces = {o["metadata"]["name"] for o in objects if o["kind"] == "Namespace"}
    for obj in objects:
        if obj["metadata"].get("namespace") not in new_namespaces:
            _apply(api, obj, dry_run=True)


def _apply(api: Api, obj: Object, dry_run: bool = False) -> tuple[Object, tuple[str, ...]]:
    try:
        return api.apply(obj, dry_run=dry_run)
    except ApiError as error:
        raise CliError(f"{label(obj)} refused: {error}") from error


def label(obj: Object) -> str:
    """`virtualservice/reviews`"""
    return f"{obj['kind'].lower()}/{obj['metadata']['name']}"


def text_of(filename: str) -> str:
    """What a file says; `-` is standard input. Raises CliError."""
    if filename == "-":
        return sys.stdin.read()
    try:
        return Path(filename).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {filename}: {error}") from error


def run_get(args: argparse.Namespace) -> None:
    """Show one object or all of a kind."""
    api = lifecycle.attach(args.name).api
    resource = api.find(args.kind)
    path = resource.path(None if args.all_namespaces else args.namespace, args.object)
    output = "json" if args.json else args.output
    if output == "table":
        _print_server_table(api, path, with_namespace=args.all_namespaces and resource.namespaced)
        return
    found, _ = api.request("GET", path)
    if output == "json":
        print_json(found)
    else:
        print(yaml.safe_dump(found, sort_keys=False), end="")


def _print_server_table(api: Api, path: str, with_namespace: bool) -> None:
    """The server's own Table, the columns kubectl shows (Kubernetes API concepts, "Receiving resources as Tables")."""
    answer = api.send("GET", path, headers={"Accept": TABLE})
    table = answer.json()
    if answer.status >= 400:
        raise ApiError(answer.status, table.get("message", f"HTTP {answer.status}"))
    shown = [i for i, c in enumerate(table["columnDefinitions"]) if c.get("priority", 0) == 0]
    header = [table["columnDefinitions"][i]["name"].upper() for i in shown]
    rows = [[row["cells"][i] for i in shown] for row in table.get("rows") or []]
    if with_namespace:
        header = ["NAMESPACE", *header]
        names = [row["object"]["metadata"].get("namespace", "") for row in table.get("rows") or []]
        rows = [[name, *row] for name, row in zip(names, rows, strict=True)]
    if rows:
        print_table(header, rows)
    else:
        print("none found", file=sys.stderr)
