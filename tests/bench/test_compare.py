"""The method of `mesh bench`: a run of a second gives every figure. How good they are is not judged here."""

from __future__ import annotations

import pytest

from mesh.bench.compare import BenchError, ratios, run
from mesh.bench.resources import CASES


def test_a_short_run_gives_every_figure_for_both_proxies() -> None:
    said: list[str] = []
    found = run(seconds=0.25, pairs=1, say=said.append)
    assert {(r["case"], r["proxy"]) for r in found["runs"]} == {
        (c, p) for c in CASES for p in ("ours", "envoy")
    }
    for each in found["runs"]:
        assert set(each) == {"case", "proxy", "rps", "cpu_us_per_request", "p50_ms", "p99_ms"}
        assert all(each[key] > 0 for key in ("rps", "cpu_us_per_request", "p50_ms", "p99_ms"))
    assert set(found["ratios"]) == set(CASES)
    assert found["machine"]["cpus"]
    assert len(said) == len(found["runs"])


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    runs = [
        {"case": "http", "proxy": proxy, "cpu_us_per_request": cost}
        for pair in ((50.0, 60.0), (100.0, 60.0), (60.0, 60.0))
        for proxy, cost in zip(("ours", "envoy"), pair, strict=True)
    ]
    assert ratios(runs) == {"http": 1.0}


def test_an_unknown_case_is_refused() -> None:
    with pytest.raises(BenchError, match="no such case: grpc"):
        run(["grpc"])
