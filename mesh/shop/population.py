"""People with a home, a device and habits, of whom the truth is known: so what a rule reached can be scored.

A population is made from its seed alone, here and wherever else it is made. Addresses are drawn from the ranges that
the City database itself has for a region, so what a gateway finds out about a visitor can be right. Devices send
what real ones send. Two in a hundred iPhones ask for the desktop site and then look like a Mac: nobody can tell.
"""

from __future__ import annotations

import ipaddress
import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import maxminddb

from mesh.api.brief import AREAS

USER_COOKIE = "user"
DESKTOP_SITE = 0.02
"""Share of the iPhones whose users ask for the desktop site."""

Region = tuple[str, str]
"""ISO 3166: country, and the subdivision's code within it."""

SOUTHERN_SPAIN: frozenset[Region] = frozenset(
    (country, region) for country, regions in AREAS["Southern Spain"].items() for region in regions
)
HOMES: Mapping[Region, float] = {
    ("ES", "AN"): 30, ("ES", "MC"): 6, ("ES", "CE"): 2, ("ES", "ML"): 2, ("ES", "MD"): 18, ("ES", "CT"): 16,
    ("ES", "VC"): 8, ("ES", "GA"): 4, ("PT", "11"): 4, ("FR", "IDF"): 4, ("DE", "BY"): 3, ("GB", "ENG"): 3,
}  # fmt: skip
"""How many people live where, relative to each other. The shop is a Spanish one."""
NEIGHBOURHOODS = {
    "ES": ["83.32.0.0/13", "83.40.0.0/13", "83.48.0.0/12", "88.16.0.0/12", "79.144.0.0/12", "2.136.0.0/13"],
    "PT": ["81.192.0.0/13"],
    "FR": ["86.192.0.0/13"],
    "DE": ["217.80.0.0/13"],
    "GB": ["86.128.0.0/13"],
}
"""Blocks of large providers: where to look for a region's ranges. The database says which are whose."""


class Phone(NamedTuple):
    """A kind of device: its family as ua-parser names it, how many have it, and what it sends."""

    family: str
    share: float
    agents: tuple[str, ...]


_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{} {}Safari/537.36"
_IOS = f"Mozilla/5.0 (iPhone; CPU iPhone OS {{}} like Mac OS X) {_SAFARI} {{}} Mobile/15E148 Safari/604.1"
_MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI} Version/18.5 Safari/605.1.15"
_ANDROID = f"Mozilla/5.0 (Linux; Android {{}}; {{}}) {_CHROME.format('137.0.0.0', 'Mobile ')}"
_WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME.format('137.0.0.0', '')}"
_FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:139.0) Gecko/20100101 Firefox/139.0"
_IPAD = f"Mozilla/5.0 (iPad; CPU OS 12_5_7 like Mac OS X) {_SAFARI} Version/12.1.2 Mobile/15E148 Safari/604.1"

DEVICES = (
    Phone(
        "iPhone",
        36,
        (
            _IOS.format("18_5", "Version/18.5"),
            _IOS.format("17_7", "Version/17.7"),
            _IOS.format("18_5", "CriOS/137.0.7151.79"),
            _IOS.format("18_4", "FxiOS/139.0"),
        ),
    ),
    Phone("Android", 40, tuple(_ANDROID.format(*a) for a in (("15", "Pixel 9"), ("14", "SM-S921B"), ("10", "K")))),
    Phone("PC", 14, (_WINDOWS, _FIREFOX)),
    Phone("Mac", 7, (_MAC,)),
    Phone("iPad", 3, (_IPAD, _MAC)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """The truth about one user. `habit` is how often they come, relative to the others."""

    name: str
    region: Region
    device: str
    address: str
    agent: str
    habit: float

    @property
    def headers(self) -> dict[str, str]:
        """What arrives at our gateway when they visit, through one proxy that we trust."""
        return {
            "x-forwarded-for": self.address,
            "user-agent": self.agent,
            "cookie": f"{USER_COOKIE}={self.name}",
        }


def people(size: int, seed: int, database: str) -> tuple[Person, ...]:
    """A population; the same for the same seed and database. Raises OSError or ValueError without a database."""
    rng = random.Random(f"people {seed}")
    where = ranges(database)
    homes = [region for region in HOMES if region in where]
    if not homes:
        raise ValueError(f"{database} knows none of the regions people live in")
    weights = [HOMES[region] for region in homes]
    return tuple(
        _person(f"u{seed}-{number:05}", rng.choices(homes, weights)[0], where, rng) for number in range(size)
    )


def _person(name: str, region: Region, where: Mapping[Region, Ranges], rng: random.Random) -> Person:
    phone = rng.choices(DEVICES, [device.share for device in DEVICES])[0]
    agent = rng.choice(phone.agents)
    if phone.family == "iPhone" and rng.random() < DESKTOP_SITE:
        agent = _MAC
    habit = round(rng.lognormvariate(0.0, 0.5), 3)
    return Person(name, region, phone.family, where[region].draw(rng), agent, habit)


class Ranges:
    """The address ranges of a region: first addresses and sizes."""

    def __init__(self, found: list[tuple[int, int]]) -> None:
        self._firsts = [first for first, _ in found]
        self._ends = list(accumulate(size for _, size in found))

    def draw(self, rng: random.Random) -> str:
        """One of all their addresses, each as likely as the others."""
        number = rng.randrange(self._ends[-1])
        index = bisect_right(self._ends, number)
        before = self._ends[index - 1] if index else 0
        return str(ipaddress.ip_address(self._firsts[index] + number - before))


@lru_cache(maxsize=2)
def ranges(database: str) -> dict[Region, Ranges]:
    """Ranges of every region people live in, as the database has them."""
    found: dict[Region, list[tuple[int, int]]] = {}
    with maxminddb.open_database(database) as reader:
        for country, blocks in NEIGHBOURHOODS.items():
            for block in blocks:
                for first, size, record in _walk(reader, ipaddress.IPv4Network(block)):
                    region = _region(record)
                    if region in HOMES and region[0] == country:
                        found.setdefault(region, []).append((first, size))
    return {region: Ranges(each) for region, each in found.items()}


def _walk(reader: Any, block: ipaddress.IPv4Network) -> Iterator[tuple[int, int, Any]]:
    """All networks of the database within a block: first address, size, record."""
    at, last = int(block.network_address), int(block.broadcast_address)
    while at <= last:
        record, prefix = reader.get_with_prefix_len(ipaddress.ip_address(at))
        size = 1 << (32 - prefix)
        yield at, size, record
        at = (at // size + 1) * size


def _region(record: Any) -> Region:
    record = record or {}
    subdivisions = record.get("subdivisions") or [{}]
    return (record.get("country") or {}).get("iso_code", ""), subdivisions[0].get("iso_code", "")


# --- what was reached --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reach:
    """How well a rule met its audience, in users who came at all.

    `precision`: of those who saw the feature, the share that was meant. `recall`: of those who were meant, the share
    that saw it (half, if half was asked for). `stickiness`: of those who came more than once, the share that
    always saw the same.
    """

    meant: int
    reached: int
    others: int
    returning: int
    steady: int

    @property
    def precision(self) -> float:
        """1.0 where nobody saw it."""
        return _ratio(self.reached, self.reached + self.others)

    @property
    def recall(self) -> float:
        return _ratio(self.reached, self.meant)

    @property
    def stickiness(self) -> float:
        return _ratio(self.steady, self.returning)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def reach(
    everybody: Iterable[Person],
    seen: Mapping[str, Mapping[str, int]],
    feature: str,
    devices: frozenset[str] = frozenset({"iPhone"}),
    regions: frozenset[Region] = SOUTHERN_SPAIN,
) -> Reach:
    """Score a rule; `seen` is what each user was shown: name to version to number of pages."""
    came = [
        (person, {v: n for v, n in seen[person.name].items() if n})
        for person in everybody
        if person.name in seen
    ]
    meant = [(p, shown) for p, shown in came if p.device in devices and p.region in regions]
    everyone_reached = sum(feature in shown for _, shown in came)
    reached = sum(feature in shown for _, shown in meant)
    returning = [shown for _, shown in came if sum(shown.values()) > 1]
    steady = sum(len(shown) == 1 for shown in returning)
    return Reach(len(meant), reached, everyone_reached - reached, len(returning), steady)
