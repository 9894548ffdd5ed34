"""Whatever one writes: a valid object means the same after a round trip, and no object makes the parser
crash.
"""

from __future__ import annotations

import copy
import string
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mesh.api import Problem, parse, validate
from mesh.control.compile import compile
from tests.oracle.test_accept import EVERYTHING
from tests.strategies import virtual_services
from tests.worlds import bookinfo, gateway, objects, sidecar

DOCUMENTS: list[Any] = [document for document in yaml.safe_load_all(EVERYTHING) if document]

keys = st.text(string.ascii_letters, max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found = [here] if here else []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, below in steps:
        found += paths(below, (*here, step))
    return found


PLACES = [(index, path) for index, document in enumerate(DOCUMENTS) for path in paths(document)]


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), json_values)
@example((0, ("spec", "hosts")), float("nan"))
@example((0, ("spec", "http", 0, "name")), "\ud800")
def test_any_mutation_is_parsed_or_refused_with_a_path(
    place: tuple[int, tuple[Any, ...]], value: Any
) -> None:
    index, path = place
    mutated = replaced(DOCUMENTS[index], path, value)
    problems = validate(mutated)
    for problem in problems:
        assert isinstance(problem, Problem)
        assert problem.path, problem
        assert problem.sentence
        assert "\n" not in problem.sentence
        assert len(problem.sentence) < 400
    if not problems:
        world = bookinfo(parse(mutated))
        compile(world, sidecar())
        compile(world, gateway())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(virtual_services())
def test_a_valid_virtual_service_survives_the_round_trip(document: dict[str, Any]) -> None:
    parsed = parse(document)
    again = parse({**document, "spec": parsed.spec.to_yaml()})
    assert again.spec == parsed.spec
    assert again.spec.to_yaml() == parsed.spec.to_yaml()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(virtual_services())
def test_compiling_is_deterministic(document: dict[str, Any]) -> None:
    first, second = (compile(bookinfo(parse(document)), sidecar()).by_type for _ in range(2))
    assert first == second


def test_every_document_of_the_sample_is_valid() -> None:
    assert len(objects(EVERYTHING)) == len(DOCUMENTS)
