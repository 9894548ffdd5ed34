"""The one update loop of a notebook: it asks telemetry and hands the answers to every live widget.

It is a thread and not a task of the kernel's event loop, so that the charts go on while a cell runs; and a
single one, so that ten widgets ask no more often than one, and widgets with the same question share an
answer. What else a widget wants from the cluster (a moved slider patches a VirtualService) is done here too,
the newest wish only: the notebook never waits for the network. It ends with `close()` or the kernel, and an
error ends nothing: it is shown by the widgets it concerns until the next answer comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.traffic import Window
from widgets.series import Query

Ask = Callable[[Query], Window]
Action = Callable[[], object]

EVERY = 0.25
"""Seconds from one round to the next."""


@dataclass(eq=False)
class Feed:
    """A widget's subscription: its question, what to do with an answer, and with the sentence of an error."""

    query: Query
    show: Callable[[Window], None]
    fail: Callable[[str], None]
    failing: bool = field(default=False, init=False)


class Live:
    """The loop. Starts with the first widget that follows it; `close()` ends it and waits for that."""

    def __init__(self, ask: Ask, every: float = EVERY) -> None:
        self._ask = ask
        self._every = every
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._feeds: list[Feed] = []
        self._wishes: dict[object, Action] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether the loop's thread is there."""
        return self._thread is not None and self._thread.is_alive()

    def follow(self, feed: Feed) -> None:
        """Give `feed` every answer from now on. Raises RuntimeError when the loop was closed."""
        with self._lock:
            self._feeds.append(feed)
        self._start()

    def leave(self, feed: Feed) -> None:
        """Stop following; a feed that does not follow is left alone."""
        with self._lock:
            self._feeds = [other for other in self._feeds if other is not feed]

    def soon(self, key: object, action: Action) -> None:
        """Do `action` in the loop, at once; it replaces one with the same `key` that has not begun yet."""
        with self._lock:
            self._wishes[key] = action
        self._start()
        self._wake.set()

    def close(self) -> None:
        """End the loop; the round that runs is finished first. A second call does nothing."""
        self._closed = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("this lab was closed; run the cell with Lab(...) again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lab-live", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            began = time.monotonic()
            self._wake.clear()
            self._grant()
            self._round()
            self._wake.wait(max(0.0, self._every - (time.monotonic() - began)))

    def _grant(self) -> None:
        with self._lock:
            wishes, self._wishes = self._wishes, {}
        for wish in wishes.values():
            try:
                wish()
            except Exception as error:  # noqa: BLE001 - shown in the widgets; the loop goes on
                self._report(self._feeds, str(error))

    def _round(self) -> None:
        with self._lock:
            feeds = list(self._feeds)
        for query in dict.fromkeys(feed.query for feed in feeds):
            concerned = [feed for feed in feeds if feed.query == query]
            try:
                window = self._ask(query)
            except Exception as error:  # noqa: BLE001 - shown in the widgets; the loop goes on
                self._report(concerned, f"telemetry gives no answer: {error}")
                continue
            for feed in concerned:
                self._show(feed, window)

    def _show(self, feed: Feed, window: Window) -> None:
        try:
            feed.show(window)
        except Exception as error:  # noqa: BLE001 - one widget's error is not the others'
            self._report([feed], f"this widget could not be drawn: {error}")
            return
        if feed.failing:
            feed.failing = False
            feed.fail("")

    def _report(self, feeds: list[Feed], sentence: str) -> None:
        for feed in feeds:
            feed.failing = True
            feed.fail(sentence)
