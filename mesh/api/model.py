"""The base of all models: how a class of fields becomes a parser, a validator, a schema and a table of
fields.

A model states three things. Its fields say what is honoured, and of which type. `unsupported` names what
Istio has at this place and this mesh does not honour yet, with the reason: it is refused by name, never
ignored. `check` yields what types cannot say (two fields that exclude each other, weights that sum up to
nothing).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mesh.api.problems import Problem
from mesh.api.scalars import labels_problem


class Model(BaseModel):
    """A mapping in the YAML of an Istio kind; camelCase there, snake_case here; immutable."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        serialize_by_alias=True,
        validate_by_name=False,
        # A program that only names kinds should not wait for the validators of all of them.
        defer_build=True,
    )

    #: What Istio has here and we refuse, by its name in YAML; the value completes "... is not supported yet".
    unsupported: ClassVar[Mapping[str, str]] = {}

    def check(self) -> Iterator[Problem]:
        """What is wrong with this level that its types cannot tell; paths are relative to it."""
        return iter(())

    def problems(self) -> Iterator[Problem]:
        """`check` of this model and of every model below it."""
        yield from self.check()
        for name, info in type(self).model_fields.items():
            yield from _below(getattr(self, name), info.alias or name)

    def to_yaml(self) -> dict[str, Any]:
        """The mapping one would write in YAML: camelCase, without what was not set."""
        return self.model_dump(mode="json", exclude_unset=True)


def _below(value: Any, path: str) -> Iterator[Problem]:
    if isinstance(value, Model):
        for problem in value.problems():
            yield problem.under(path)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _below(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _below(item, f"{path}[{key}]")


class WorkloadSelector(Model):
    """Which workloads of the namespace: all those that carry every one of these labels."""

    match_labels: dict[str, str] = Field(default_factory=dict)

    def check(self) -> Iterator[Problem]:
        for key, value in self.match_labels.items():
            if "*" in key or "*" in value:
                yield Problem("matchLabels", f"{key}={value} has a wildcard, which a selector cannot have")
                return
        if wrong := labels_problem(self.match_labels):
            yield Problem("matchLabels", wrong)

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items())


def export_to_problems(export_to: tuple[str, ...]) -> Iterator[Problem]:
    """Rules of `exportTo`: "*" alone, "." or names of namespaces, none twice."""
    from mesh.api.scalars import is_dns_label

    seen: set[str] = set()
    for index, entry in enumerate(export_to):
        path = f"exportTo[{index}]"
        if entry not in ("*", ".") and not is_dns_label(entry):
            yield Problem(path, f"must be *, . or the name of a namespace, not {entry!r}")
        if entry in seen:
            yield Problem(path, f"{entry!r} is there twice")
        seen.add(entry)
    if "*" in seen and len(seen) > 1:
        yield Problem("exportTo", '"*" means every namespace, so nothing can stand beside it')


def not_empty(model: Model, *names: str) -> Iterator[Problem]:
    """These lists must have an entry. (In `check`, since pydantic would also count entries it has refused.)"""
    for name in names:
        if not getattr(model, name):
            yield Problem(type(model).model_fields[name].alias or name, "must have at least one entry")


def inner(annotation: Any) -> Any:
    """The type without Optional and Annotated."""
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        return inner(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        rest = [arg for arg in get_args(annotation) if arg is not type(None)]
        return inner(rest[0]) if len(rest) == 1 else annotation
    return annotation


def model_in(annotation: Any) -> type[Model] | None:
    """The model a field holds: itself, in a list or as the values of a mapping; None for scalars."""
    kind = inner(annotation)
    if get_origin(kind) is tuple:
        return model_in(get_args(kind)[0])
    if get_origin(kind) is dict:
        return model_in(get_args(kind)[1])
    return kind if isinstance(kind, type) and issubclass(kind, Model) else None


def is_mapping(annotation: Any) -> bool:
    return get_origin(inner(annotation)) is dict


def is_list(annotation: Any) -> bool:
    return get_origin(inner(annotation)) is tuple
