"""Makes the visits: an open-loop generator, the only kind that shows how slow a slow shop is.

People do not wait for one another: whether the page takes a millisecond or ten seconds, the next visitor
comes when he comes. So requests start on schedule, not when the last one ended, and latency counts from the
scheduled time. When as many as allowed are under way, the next ones wait (`behind` says how many) and their
waiting counts too. A closed loop would slow down with the shop and report that all is well (Tene's
"coordinated omission").
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

from mesh.shop.client import proxy_for
from mesh.shop.fetch import NoConnection, Pool
from mesh.shop.plan import Plan, arrivals
from mesh.shop.productpage import VERSION_HEADER
from mesh.shop.stats import Outcome, Stats

log = logging.getLogger(__name__)

# Visitors who wait because nobody is served are remembered up to here; more than that tells nothing more.
MOST_BEHIND = 20_000

_AGENT = {"user-agent": "shop-visitor"}


class Load:
    """Follows one plan at a time. Made and used inside a running event loop."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.plan = Plan()
        self.in_flight = 0
        self.skipped = 0  # due, but given up: the plan changed while they waited, or too many did
        self._loop = asyncio.get_running_loop()
        self._pool: Pool
        self._url = self._target = ""
        self._waiting: deque[tuple[float, int]] = deque()
        self._requests: set[asyncio.Task[None]] = set()
        self._dispatcher: asyncio.Task[None] | None = None

    @property
    def behind(self) -> int:
        """How many visits are due and not begun."""
        return len(self._waiting)

    def now(self) -> float:
        """The clock that the stats go by."""
        return self._loop.time()

    @property
    def running(self) -> bool:
        """Whether more visits will come without a new plan."""
        return self._dispatcher is not None and not self._dispatcher.done()

    @property
    def done(self) -> bool:
        """Whether everybody whom this plan sends has come back."""
        total = self.stats.total
        return not self.running and not self._waiting and total.sent == total.outcomes.total()

    async def follow(self, plan: Plan) -> None:
        """Drop the old plan and begin this one now, with new counts. Visits under way end as they would
        have.
        """
        await self._stop_dispatching()
        self.plan, self.stats = plan, Stats()
        self._kinds = [(name, {**_AGENT, **_lower(headers)}) for name, headers in plan.kinds()]
        parts = urlsplit(plan.url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if plan.url != self._url:
            self._pool, self._url = Pool(plan.url, proxy_for(plan.url)), plan.url
        self._dispatcher = self._loop.create_task(self._dispatch(plan))

    async def close(self) -> None:
        """Stop at once, visits under way included."""
        await self._stop_dispatching()
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        await self._pool.close()

    async def _stop_dispatching(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._dispatcher
        self.skipped += len(self._waiting)
        self._waiting.clear()

    async def _dispatch(self, plan: Plan) -> None:
        start = self._loop.time()
        for arrival in arrivals(plan):
            due = start + arrival.at
            # Zero when late already; the loop still gets its turn to move the requests under way.
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            self._arrive(due, arrival.kind)

    def _arrive(self, due: float, kind: int) -> None:
        if self.in_flight < self.plan.concurrency:
            self.in_flight += 1
            task = self._loop.create_task(self._visits(due, kind))
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)
        elif len(self._waiting) < MOST_BEHIND:
            self._waiting.append((due, kind))
        else:
            self.skipped += 1

    async def _visits(self, due: float, kind: int) -> None:
        """Make one visit and then, as long as others wait, theirs."""
        try:
            while True:
                stats = self.stats  # a visit counts for the plan that sent it
                name, headers = self._kinds[kind]
                stats.sent(self._loop.time())
                code, version = await self._visit(headers)
                now = self._loop.time()
                stats.ended(now, Outcome(name, code, version), now - due)
                if not self._waiting or self.in_flight > self.plan.concurrency:
                    return
                due, kind = self._waiting.popleft()
        finally:
            self.in_flight -= 1

    async def _visit(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """Code of the answer, or what went wrong in one word, and the version of reviews it showed."""
        try:
            answer = await self._pool.get(self._target, headers, self.plan.timeout)
        except TimeoutError:
            return "timeout", ""
        except NoConnection as error:
            log.debug("%s", error)
            return "connect", ""
        except OSError as error:
            log.debug("no answer: %s", error)
            return "broken", ""
        return str(answer.status), answer.headers.get(VERSION_HEADER, "")


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Header names in lower case, so that a plan's `User-Agent` replaces ours instead of joining it; values
    as UTF-8, which is what a browser would send.
    """
    return {name.lower(): value.encode().decode("latin-1") for name, value in headers.items()}
