"""The arithmetic of a rolling update, whatever the numbers."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.embedded.controllers.rollout import Counted, Limits, limits_of, recreate_step, rolling_step


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    replicas = draw(st.integers(1, 12))
    surge = draw(st.integers(0, replicas))
    unavailable = draw(st.integers(0 if surge else 1, replicas))
    return Limits(replicas, surge, unavailable)


@given(limits(), st.integers(0, 2**32))
def test_a_rollout_keeps_its_limits_and_ends(allowed: Limits, seed: int) -> None:
    import random

    dice = random.Random(seed)
    old, new = allowed.replicas, 0
    old_available, new_available = old, 0
    for _ in range(400):
        changes = rolling_step(
            allowed, Counted("new", new, new_available), [Counted("old", old, old_available)]
        )
        if not changes and new == allowed.replicas == new_available and old == 0:
            return
        new, old = changes.get("new", new), changes.get("old", old)
        old_available = min(old_available, old)
        assert new + old <= allowed.most
        assert new_available + old_available >= allowed.fewest
        if new_available < new and dice.random() < 0.7:
            new_available += 1
    raise AssertionError("the rollout did not end")


def test_pods_that_do_not_work_are_replaced_first() -> None:
    allowed = Limits(4, 1, 0)
    broken = [Counted("older", 2, 0), Counted("old", 2, 2)]
    assert rolling_step(allowed, Counted("new", 1, 1), broken) == {"older": 1}


def test_scaling_down_in_the_middle() -> None:
    assert rolling_step(Limits(2, 1, 0), Counted("new", 4, 4), []) == {"new": 2}


def test_percentages_round_up_for_surge_and_down_for_unavailable() -> None:
    spec = {"replicas": 3, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}
    assert limits_of({"spec": spec}) == Limits(3, 1, 0)
    none = {"replicas": 3, "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}
    assert limits_of({"spec": none}) == Limits(3, 0, 1)


def test_recreate_waits_for_the_last_old_pod() -> None:
    assert recreate_step(2, Counted("new", 0, 0), [Counted("old", 2, 2, 2)]) == {"old": 0}
    assert recreate_step(2, Counted("new", 0, 0), [Counted("old", 0, 0, 1)]) == {}
    assert recreate_step(2, Counted("new", 0, 0), [Counted("old", 0, 0, 0)]) == {"new": 2}
