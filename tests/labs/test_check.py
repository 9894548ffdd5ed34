"""What the checks conclude: solved passes, each way to be unsolved gets its own hint, bad luck does not matter."""

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest

from widgets.answers import Seen


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", Path(__file__).parents[2] / "labs" / "check.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["check"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check = load()


def seen(**counts: int) -> Seen:
    return Seen(("destination_version",), {(version,): n for version, n in counts.items() if n}, 10.0)


V1 = seen(v1=400)


@pytest.mark.parametrize(
    ("jason", "others", "hint"),
    [
        (V1, V1, "match on the header end-user"),
        (seen(v1=320, v3=80), seen(v1=320, v3=80), "Others see v3 too"),
        (seen(v1=200, v3=200), V1, "20 % of Jason's requests"),
        (seen(v3=400), V1, "20 % of Jason's requests"),
        (seen(v1=200, unknown=200), V1, "does the DestinationRule define"),
        (seen(), seen(), "are the visitors there?"),
    ],
)
def test_jason_unsolved(jason: Seen, others: Seen, hint: str) -> None:
    verdict = check.judge_jason(jason, others)
    assert not verdict.ok
    assert hint in verdict.look
    assert str(verdict).startswith("✗ Not yet. v3 for Jason: ")


@pytest.mark.parametrize(
    ("everybody", "hint"),
    [
        (V1, "Half was asked for"),
        (seen(v3=400), "Half was asked for"),
        (seen(v1=320, v3=80), "Half was asked for"),
        (seen(v1=130, v2=130, v3=140), "v2 is served as well"),
        (seen(v1=10, v3=10), "Only 20 requests were seen"),
    ],
)
def test_half_unsolved(everybody: Seen, hint: str) -> None:
    verdict = check.judge_half(everybody)
    assert not verdict.ok
    assert hint in verdict.look


def test_solved_passes_whatever_the_dice_say() -> None:
    dice = random.Random(3)

    def draw(share: float) -> Seen:
        count = sum(dice.random() < share for _ in range(check.ENOUGH))
        return seen(v1=check.ENOUGH - count, v3=count)

    others = seen(v1=check.ENOUGH)
    for _ in range(300):
        assert check.judge_jason(draw(0.2), others).ok
        assert check.judge_half(draw(0.5)).ok


def test_a_verdict_shows_what_was_seen() -> None:
    verdict = check.judge_half(seen(v1=198, v3=202))
    assert str(verdict) == "✓ Solved. v3 for everybody: 50.5 % (45.6 to 55.4 %)."
    assert "✓ Solved." in verdict._repr_html_()
