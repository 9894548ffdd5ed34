"""Server-side tables: `kubectl get` asks for rows and cells, and prints what it is given.

Columns of the built-in kinds are in `columns.py`; a definition brings its own as `additionalPrinterColumns`.
(Kubernetes docs "API Concepts", "Receiving resources as Tables".)
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.embedded.cells import Cell, age
from cluster.embedded.columns import AGE, BY_RESOURCE, NAME, Column
from cluster.embedded.kinds import Kind
from cluster.embedded.read import Shape
from cluster.embedded.status import Object
from cluster.embedded.store import Entry, encode

API_VERSION = "meta.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Wish:
    """A client's wish for a table. `include` says what of each object goes with its row: None, Metadata,
    Object.
    """

    include: str = "Metadata"


def read_wish(accept: str, include: str) -> Wish | None:
    """The wish in an Accept header, if its first choice is a table."""
    first = accept.partition(",")[0].replace(" ", "")
    return Wish(include or "Metadata") if {"as=Table", "v=v1"} <= set(first.split(";")) else None


_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\*)\]|\[\?\(@\.([\w.]+)==[\"']([^\"']*)[\"']\)\]|\['([^']+)'\]")


def json_path(path: str) -> Callable[[Object], Any]:
    """The simple JSONPath of printer columns: fields, [0], [*], ['quoted'], [?(@.type=="Ready")]. First match or
    None.
    """
    steps = [found.groups() for found in _STEP.finditer(path.replace("\\.", "\0"))]

    def read(object: Object) -> Any:
        values: list[Any] = [object]
        for name, index, key, wanted, quoted in steps:
            values = [
                part for value in values for part in _step(value, (name or quoted or ""), index, key, wanted)
            ]
        return values[0] if values else None

    return read


def _step(value: Any, name: str, index: str | None, key: str | None, wanted: str | None) -> list[Any]:
    if index is not None:
        items = value if isinstance(value, list) else []
        return items if index == "*" else items[int(index) : int(index) + 1]
    if key is not None:
        items = value if isinstance(value, list) else []
        return [item for item in items if isinstance(item, dict) and str(item.get(key)) == wanted]
    name = name.replace("\0", ".")
    return [value[name]] if isinstance(value, dict) and name in value else []


def _custom_column(definition: Object) -> Column:
    read, kind = json_path(definition["jsonPath"]), definition.get("type", "string")

    def cell(object: Object) -> Cell:
        value = read(object)
        if value is None:
            return None
        if kind == "date":
            return age(str(value))
        if isinstance(value, dict | list):
            return encode(value).decode()
        return value if kind in ("integer", "number", "boolean") else str(value)

    wide = definition.get("priority", 0) > 0
    about = definition.get("description", "")
    return Column(definition["name"], cell, wide, kind, definition.get("format", ""), about)


def columns_of(kind: Kind) -> tuple[Column, ...]:
    """The columns of a kind."""
    if kind.custom and kind.columns:
        return (NAME, *(_custom_column(definition) for definition in kind.columns))
    return BY_RESOURCE.get(kind.resource, (NAME, AGE))


def _definition(column: Column) -> Object:
    return {
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description or column.name,
        "priority": int(column.wide),
    }


def _row(columns: tuple[Column, ...], entry: Entry, kind: Kind, wish: Wish) -> Object:
    row: Object = {"cells": [column.read(entry.object) for column in columns]}
    if wish.include == "Object":
        row["object"] = entry.view(kind.api_version)
    elif wish.include == "Metadata":
        head = {"kind": "PartialObjectMetadata", "apiVersion": API_VERSION}
        row["object"] = head | {"metadata": entry.object["metadata"]}
    return row


def render(kind: Kind, entries: list[Entry], wish: Wish, metadata: Object) -> bytes:
    """The bytes of a `Table`."""
    columns = columns_of(kind)
    table = {
        "kind": "Table",
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "columnDefinitions": [_definition(column) for column in columns],
        "rows": [_row(columns, entry, kind, wish) for entry in entries],
    }
    return encode(table)


def watch_shape(kind: Kind, wish: Wish) -> Shape:
    """How the events of a watch become tables of one row."""
    return lambda entries: render(kind, entries, wish, {"resourceVersion": str(entries[-1].revision)})
