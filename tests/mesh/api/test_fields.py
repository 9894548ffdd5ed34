"""The table of fields says of each field of Istio's whether it is honoured."""

from __future__ import annotations

from pathlib import Path

from mesh.api import fields
from mesh.api.fields import all_rows, markdown, page
from mesh.api.kinds import KINDS, UNSUPPORTED
from mesh.api.model import Model, model_in


def test_the_table_has_honoured_and_refused_fields() -> None:
    rows = {(row.kind, row.path): row for row in all_rows()}
    assert rows["VirtualService", "spec.http[].route[].weight"].honoured
    assert rows["VirtualService", "spec.http[].match[].headers{}.exact"].honoured
    assert not rows["VirtualService", "spec.http[].mirrorPercent"].honoured
    assert not rows["EnvoyFilter", ""].honoured
    assert len(rows) == len(all_rows())


def test_markdown_has_a_line_for_each_row() -> None:
    assert len(markdown().splitlines()) == 2 + len(all_rows())
    assert all(kind in markdown() for kind in UNSUPPORTED)


def test_no_field_is_both_honoured_and_refused() -> None:
    def look(model: type[Model]) -> None:
        aliases = {info.alias for info in model.model_fields.values()}
        assert not aliases & set(model.unsupported), model
        for info in model.model_fields.values():
            below = model_in(info.annotation)
            if below is not None:
                look(below)

    for kind in KINDS:
        look(kind.model)


def test_the_page_of_fields_is_what_the_models_say() -> None:
    committed = (Path(fields.__file__).parent / "FIELDS.md").read_text()
    assert committed == page(), "run: python -m mesh.api.fields > mesh/api/FIELDS.md"
