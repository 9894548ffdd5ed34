"""What came of the visits: counts by kind of visitor, by code and by the reviews version that the page
showed.

The visitors know first hand what they were served, so these numbers are the truth to hold telemetry against.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mesh.histogram import bucket_of, percentiles

KEEP_S = 600


class Outcome(NamedTuple):
    """How one visit ended: the kind of visitor, the HTTP code ("200", or "timeout", "connect", "broken"
    when there was none) and the version of reviews the page showed ("" when it said none).
    """

    kind: str
    code: str
    version: str

    @property
    def ok(self) -> bool:
        """Whether an answer came and was no error."""
        return self.code[0] in "123"


@dataclass(slots=True)
class Tally:
    """Counts of some stretch of time. Tallies add up."""

    sent: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Count everything that `other` counted."""
        self.sent += other.sent
        self.outcomes.update(other.outcomes)
        self.latency.update(other.latency)


class Stats:
    """All counts since the last reset, and one tally for each of the last 600 seconds."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        self.total = Tally()
        self._seconds: deque[tuple[int, Tally]] = deque(maxlen=KEEP_S)

    def sent(self, now: float) -> None:
        """A request went out at `now` (any clock in seconds, as long as it is always the same)."""
        self.total.sent += 1
        self._second(now).sent += 1

    def ended(self, now: float, outcome: Outcome, latency_s: float) -> None:
        """A visit ended at `now`, `latency_s` seconds after the time it was due."""
        bucket = bucket_of(latency_s * 1000)
        for tally in (self.total, self._second(now)):
            tally.outcomes[outcome] += 1
            tally.latency[bucket] += 1

    def last(self, seconds: float, now: float) -> Tally:
        """What happened in the last `seconds` (in whole clock seconds, the one under way included)."""
        found = Tally()
        for second, tally in self._seconds:
            if second > now - seconds:
                found.add(tally)
        return found

    def _second(self, now: float) -> Tally:
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, Tally()))
        return self._seconds[-1][1]


def summary(tally: Tally) -> dict[str, Any]:
    """A tally as the steering API tells it."""
    return {
        "sent": tally.sent,
        **_ok_and_failed(tally.outcomes),
        "by_code": _by(tally.outcomes, "code"),
        "by_version": _by(tally.outcomes, "version"),
        "by_mix": {
            kind: {**_ok_and_failed(own), "by_code": _by(own, "code"), "by_version": _by(own, "version")}
            for kind, own in _split_by_kind(tally.outcomes).items()
        },
        "latency_ms": percentiles(tally.latency),
    }


def _ok_and_failed(outcomes: Counter[Outcome]) -> dict[str, int]:
    ok = sum(n for outcome, n in outcomes.items() if outcome.ok)
    return {"ok": ok, "failed": outcomes.total() - ok}


def _by(outcomes: Counter[Outcome], name: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for outcome, n in outcomes.items():
        counts[getattr(outcome, name)] += n
    return {key: counts[key] for key in sorted(counts) if key}


def _split_by_kind(outcomes: Counter[Outcome]) -> dict[str, Counter[Outcome]]:
    kinds: dict[str, Counter[Outcome]] = {}
    for outcome, n in outcomes.items():
        kinds.setdefault(outcome.kind, Counter())[outcome] = n
    return kinds
