"""The table of fields: for each kind, field by field, whether it is honoured or refused. For the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mesh.api.kinds import KINDS, UNSUPPORTED, Kind
from mesh.api.model import Model, is_list, is_mapping, model_in


@dataclass(frozen=True, slots=True)
class FieldRow:
    """`path` as in error messages, with `[]` for any list item and `{}` for any key of a mapping."""

    kind: str
    path: str
    honoured: bool
    note: str = ""


def all_rows() -> list[FieldRow]:
    """Every field of every kind we know, then the kinds refused as a whole."""
    listed = [row for kind in KINDS for row in rows(kind)]
    return listed + [FieldRow(name, "", False, reason) for name, reason in UNSUPPORTED.items()]


def rows(kind: Kind) -> list[FieldRow]:
    """The fields of one kind, in the order of the models."""
    return list(_model_rows(kind.name, kind.model, "spec"))


def _model_rows(kind: str, model: type[Model], prefix: str) -> Iterator[FieldRow]:
    for name, info in model.model_fields.items():
        path = f"{prefix}.{info.alias or name}{_suffix(info.annotation)}"
        below = model_in(info.annotation)
        yield FieldRow(kind, path, True)
        if below is not None:
            yield from _model_rows(kind, below, path)
    for name, reason in model.unsupported.items():
        yield FieldRow(kind, f"{prefix}.{name}", False, reason or "not supported yet")


def _suffix(annotation: Any) -> str:
    return "[]" if is_list(annotation) else "{}" if is_mapping(annotation) else ""


def markdown() -> str:
    """The table as Markdown."""
    lines = ["| kind | field | |", "|---|---|---|"]
    for row in all_rows():
        said = "honoured" if row.honoured else f"refused: {row.note}"
        lines.append(f"| {row.kind} | {f'`{row.path}`' if row.path else ''} | {said} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page `FIELDS.md` beside this file: `python -m mesh.api.fields > mesh/api/FIELDS.md`."""
    rows_ = all_rows()
    honoured = sum(row.honoured for row in rows_)
    return (
        "# Istio's fields, one by one\n\n"
        "Made from the models by `python -m mesh.api.fields`. What is refused is refused when it is applied, "
        f"with its path; nothing is ignored. {honoured} fields are honoured, {len(rows_) - honoured} fields and "
        "kinds refused.\n\n" + markdown()
    )


if __name__ == "__main__":
    print(page(), end="")
