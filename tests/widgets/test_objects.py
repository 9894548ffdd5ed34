"""A rule counts as followed only when every proxy runs with this very generation of it."""

import pytest

from cluster.api import Object
from widgets.objects import followed


def rule(generation: int, observed: int | None, reconciled: str | None) -> Object:
    status: Object = {} if observed is None else {"observedGeneration": observed}
    if reconciled:
        status["conditions"] = [
            {"type": "PassedAnalysis", "status": "True"},
            {"type": "Reconciled", "status": reconciled},
        ]
    return {"metadata": {"generation": generation}, "status": status}


@pytest.mark.parametrize(
    ("generation", "observed", "reconciled", "follows"),
    [
        (2, 2, "True", True),
        (2, 1, "True", False),  # of the rule before
        (2, 2, "False", False),  # refused, or not acknowledged yet
        (2, 2, None, False),
        (1, None, None, False),
    ],
)
def test_followed(generation: int, observed: int | None, reconciled: str | None, follows: bool) -> None:
    assert followed(rule(generation, observed, reconciled)) is follows


def test_no_status_at_all_is_not_followed() -> None:
    assert not followed({"metadata": {"generation": 1}})
