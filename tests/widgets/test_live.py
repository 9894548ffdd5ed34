"""The update loop: one question for all who ask it, errors shown and survived, nothing left behind."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue

import pytest

from cluster.traffic import Window
from widgets.live import Feed, Live
from widgets.series import Query

VERSIONS = Query(("destination_version",))
CODES = Query(("response_code",))


def answer(query: Query) -> Window:
    return Window(100.0, 70.0, query.step, [])


@contextmanager
def loop(ask: Callable[[Query], Window] = answer) -> Iterator[Live]:
    live = Live(ask, every=0.01)
    try:
        yield live
    finally:
        live.close()
        assert not live.running


def test_widgets_with_one_question_share_an_answer() -> None:
    asked: list[Query] = []
    rounds: Queue[str] = Queue()

    def ask(query: Query) -> Window:
        asked.append(query)
        return answer(query)

    with loop(ask) as live:
        first = Feed(VERSIONS, lambda _: rounds.put("first"), pytest.fail)
        live.follow(first)
        live.follow(Feed(VERSIONS, lambda _: rounds.put("second"), pytest.fail))
        live.follow(Feed(CODES, lambda _: rounds.put("codes"), pytest.fail))
        heard: set[str] = set()
        while not {"second", "codes"} <= heard:
            heard.add(rounds.get(timeout=5))
        live.leave(first)
    assert set(asked) == {VERSIONS, CODES}
    assert asked.count(VERSIONS) <= asked.count(CODES) + 3  # not twice as often


def test_an_error_is_shown_and_taken_back() -> None:
    sentences: Queue[str] = Queue()
    broken = threading.Event()
    broken.set()

    def ask(query: Query) -> Window:
        if broken.is_set():
            raise OSError("connection refused")
        return answer(query)

    with loop(ask) as live:
        live.follow(Feed(VERSIONS, lambda _: None, sentences.put))
        assert sentences.get(timeout=5) == "telemetry gives no answer: connection refused"
        broken.clear()
        while sentences.get(timeout=5) != "":
            pass


def test_a_widget_that_cannot_draw_does_not_stop_the_others() -> None:
    sentences: Queue[str] = Queue()
    drawn: Queue[Window] = Queue()

    def draw(window: Window) -> None:
        raise ZeroDivisionError("no requests")

    with loop() as live:
        live.follow(Feed(VERSIONS, draw, sentences.put))
        live.follow(Feed(VERSIONS, drawn.put, pytest.fail))
        assert "no requests" in sentences.get(timeout=5)
        assert drawn.get(timeout=5).now == 100.0


def test_only_the_newest_wish_is_granted() -> None:
    granted: Queue[int] = Queue()
    began, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        go_on.wait(5)
        granted.put(0)

    with loop() as live:
        live.soon("slider", slow)
        assert began.wait(5)
        for value in range(1, 50):
            live.soon("slider", lambda value=value: granted.put(value))  # type: ignore[misc]
        go_on.set()
        assert [granted.get(timeout=5), granted.get(timeout=5)] == [0, 49]
    assert granted.empty()


def test_a_wish_that_fails_is_shown() -> None:
    sentences: Queue[str] = Queue()

    def refused() -> None:
        raise ValueError("weights must not be negative")

    with loop() as live:
        live.follow(Feed(VERSIONS, lambda _: None, sentences.put))
        live.soon("slider", refused)
        assert sentences.get(timeout=5) == "weights must not be negative"


def test_a_closed_loop_says_what_to_do() -> None:
    live = Live(answer)
    live.close()
    live.close()
    with pytest.raises(RuntimeError, match="was closed"):
        live.follow(Feed(VERSIONS, print, print))
