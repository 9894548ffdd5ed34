"""Plans: what is refused and how, and when the visitors come."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.shop.plan import BadPlan, Plan, arrivals, changed

BAD = [
    ({"rate": -1}, "rate", "greater than or equal to 0"),
    ({"rate": "20"}, "rate", "valid number"),
    ({"rate": True}, "rate", "valid number"),
    ({"rate": float("nan")}, "rate", "finite"),
    ({"rate": 1e9}, "rate", "less than or equal to 5000"),
    ({"concurrency": 0}, "concurrency", "greater than or equal to 1"),
    ({"concurrency": 1.5}, "concurrency", "integer"),
    ({"url": "ftp://shop"}, "url", "no http"),
    ({"url": "http://shop:x/"}, "url", "no http"),
    ({"url": "http://shop/a b"}, "url", "no http"),
    ({"headers": {"bad name": "x"}}, "headers", "no HTTP header name"),
    ({"headers": {"x": "a\r\nb"}}, "headers", "control character"),
    ({"headers": {"x": 1}}, "headers.x", "valid string"),
    ({"mix": [{"weight": 1}, {"weight": -1}]}, "mix[1].weight", "greater than or equal to 0"),
    ({"mix": [{"weight": 0}]}, "mix", "above zero"),
    ({"mix": [{"wieght": 1, "weight": 1}]}, "mix[0].wieght", "there are weight, headers, name"),
    ({"mix": {"weight": 1}}, "mix", "tuple"),
    ({"arrivals": "often"}, "arrivals", "'poisson' or 'even'"),
    ({"duration": 0}, "duration", "greater than 0"),
    ({"speed": 3}, "speed", "there are rate, concurrency"),
    ([1], "", "JSON object"),
    (None, "", "JSON object"),
]


@pytest.mark.parametrize(("change", "path", "sentence"), BAD)
def test_a_bad_field_is_named_and_explained(change, path, sentence):
    with pytest.raises(BadPlan) as refused:
        changed(Plan(), change)
    ((found_path, found_sentence),) = refused.value.problems
    assert found_path == path and sentence in found_sentence


def test_all_problems_are_told_at_once():
    with pytest.raises(BadPlan) as refused:
        changed(Plan(), {"rate": -1, "seed": "x"})
    assert [path for path, _ in refused.value.problems] == ["rate", "seed"]


def test_a_change_keeps_the_rest():
    plan = changed(Plan(rate=5, seed=3), {"mix": [{"weight": 1, "name": "iphone"}], "duration": None})
    assert (plan.rate, plan.seed, plan.mix[0].name) == (5, 3, "iphone")
    assert changed(plan, {}) == plan
    assert changed(plan, plan.model_dump(mode="json")) == plan


def test_headers_of_a_mix_join_those_of_the_plan():
    plan = changed(Plan(), {"headers": {"a": "1", "b": "1"}, "mix": [{"weight": 1, "headers": {"b": "2"}}]})
    assert plan.kinds() == [("mix[0]", {"a": "1", "b": "2"})]
    assert Plan().kinds() == [("all", {})]


def test_even_arrivals_are_even():
    assert [arrival.at for arrival in islice(arrivals(Plan(rate=4, arrivals="even")), 4)] == [
        0.25,
        0.5,
        0.75,
        1.0,
    ]


@given(st.floats(0.5, 2000), st.integers(), st.sampled_from(["even", "poisson"]))
def test_arrivals_come_in_order_at_the_rate_and_again_with_the_same_seed(rate, seed, how):
    plan = Plan(rate=rate, seed=seed, arrivals=how, duration=1000 / rate)
    times = [arrival.at for arrival in arrivals(plan)]
    assert all(a <= b for a, b in pairwise(times)) and times[-1] <= 1000 / rate
    assert abs(len(times) - 1000) < (2 if how == "even" else 200)  # 200: six standard deviations of Poisson
    assert times == [arrival.at for arrival in arrivals(plan)]


def test_mix_weights_are_the_shares():
    plan = changed(Plan(rate=10, seed=5), {"mix": [{"weight": 3}, {"weight": 1}, {"weight": 0}]})
    kinds = [arrival.kind for arrival in islice(arrivals(plan), 4000)]
    assert abs(kinds.count(0) - 3000) < 150 and kinds.count(2) == 0


def test_rate_zero_rests():
    assert list(arrivals(Plan())) == []
