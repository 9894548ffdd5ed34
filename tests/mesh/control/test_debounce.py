"""When the control plane acts on changes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from mesh.control.debounce import Debounce, Debouncer

times = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(sorted)


@given(times)
def test_it_waits_for_quiet_but_never_longer_than_the_limit(moments: list[float]) -> None:
    debounce = Debounce(quiet=0.01, longest=0.2)
    for moment in moments:
        debounce.change(moment)
    due = debounce.due()
    assert due is not None
    assert due <= moments[0] + 0.2
    assert due == moments[-1] + 0.01 or due == moments[0] + 0.2
    debounce.acted()
    assert debounce.due() is None


async def test_a_burst_is_one_act_and_a_steady_stream_is_not_starved() -> None:
    loop, acts = asyncio.get_running_loop(), []
    debouncer = Debouncer(lambda: acts.append(loop.time()), Debounce(quiet=0.02, longest=0.1))
    for _ in range(5):
        debouncer.change()
    while not acts:
        await asyncio.sleep(0.001)
    assert len(acts) == 1
    started = loop.time()
    while len(acts) < 2:  # a change every 5 ms leaves no quiet of 20 ms
        debouncer.change()
        await asyncio.sleep(0.005)
    assert acts[1] - started < 0.5
    debouncer.close()
