"""What the visitors shall do, and whether what somebody asked for makes sense. Pure: no I/O, no clock.

A plan is changed as a whole: `changed` returns the new plan or says what is wrong with which field, so a bad
request can never leave half a plan behind.
"""

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

FRONT_DOOR = "http://mesh-gateway.mesh-system:8080/productpage"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2 (token)
_NOT_IN_VALUES = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class BadPlan(ValueError):
    """A plan that cannot be followed. `problems` holds (path, sentence) pairs, one for each bad field."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__(
            "; ".join(f"{path}: {sentence}" if path else sentence for path, sentence in problems)
        )


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no HTTP header name")
        if _NOT_IN_VALUES.search(value):
            raise ValueError(f"the value of {name!r} holds a control character")
    return headers


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Mix(_Strict):
    """One kind of visitor: how many of them there are, relative to the others, and the headers they send."""

    weight: float = Field(ge=0, le=1_000_000)
    headers: dict[str, str] = Field(default_factory=dict, max_length=50)
    name: str = Field(default="", max_length=60)

    _headers = field_validator("headers")(_check_headers)


class Plan(_Strict):
    """Everything that determines the load. Two runs of one plan make the same requests at the same
    offsets.
    """

    rate: float = Field(default=0.0, ge=0, le=5_000)  # requests a second; 0 rests
    concurrency: int = Field(default=64, ge=1, le=2_000)  # requests under way at once, at most
    url: str = FRONT_DOOR
    headers: dict[str, str] = Field(
        default_factory=dict, max_length=50
    )  # of every request; a mix adds its own
    mix: tuple[Mix, ...] = Field(default=(), max_length=10_000)
    arrivals: Literal["poisson", "even"] = "poisson"
    seed: int = 1
    duration: float | None = Field(default=None, gt=0)  # seconds; None goes on until the next plan
    count: int | None = Field(default=None, ge=1)  # so many requests, then rest; None sets no limit
    timeout: float = Field(default=15.0, gt=0, le=300)  # seconds from sending to the end of the answer

    _headers = field_validator("headers")(_check_headers)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # the port is no number
            usable = False
        if not usable or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError(f"{url!r} is no http:// or https:// address")
        return url

    @field_validator("mix", mode="before")
    @classmethod
    def _list_to_tuple(cls, mix: Any) -> Any:
        return tuple(mix) if isinstance(mix, list) else mix  # JSON has no tuples

    @field_validator("mix")
    @classmethod
    def _check_weights(cls, mix: tuple[Mix, ...]) -> tuple[Mix, ...]:
        if mix and not any(kind.weight for kind in mix):
            raise ValueError("at least one weight must be above zero")
        return mix

    def kinds(self) -> list[tuple[str, dict[str, str]]]:
        """Name and complete headers of each kind of visitor; one kind "all" where the plan mixes none."""
        if not self.mix:
            return [("all", self.headers)]
        return [
            (kind.name or f"mix[{i}]", {**self.headers, **kind.headers}) for i, kind in enumerate(self.mix)
        ]


class Arrival(NamedTuple):
    """One request to make: when, in seconds from the start of the plan, and as which kind of visitor (an
    index).
    """

    at: float
    kind: int


def arrivals(plan: Plan) -> Iterator[Arrival]:
    """All arrivals of a plan in order; without end unless it has a duration or a count, none at rate 0.

    "even" is one every 1/rate seconds; "poisson" draws the gaps, as people who do not know each other arrive.
    """
    if not plan.rate:
        return
    rng = random.Random(plan.seed)
    weights = list(itertools.accumulate(kind.weight for kind in plan.mix)) or [1.0]
    kinds = range(len(weights))
    at = 0.0
    numbers = itertools.count(1) if plan.count is None else range(1, plan.count + 1)
    for count in numbers:
        at = count / plan.rate if plan.arrivals == "even" else at + rng.expovariate(plan.rate)
        if plan.duration is not None and at > plan.duration:
            return
        yield Arrival(at, rng.choices(kinds, cum_weights=weights)[0])


def changed(plan: Plan, change: Any) -> Plan:
    """The plan with some fields replaced. Raises BadPlan; the old plan stays what it was either way."""
    if not isinstance(change, Mapping):
        raise BadPlan([("", 'a plan is a JSON object of fields, such as {"rate": 20}')])
    try:
        return Plan.model_validate({**plan.model_dump(), **change})
    except ValidationError as error:
        raise BadPlan([_problem(found) for found in error.errors(include_url=False)]) from None


def _problem(found: Any) -> tuple[str, str]:
    """Path and sentence of one pydantic error."""
    path = ""
    for part in found["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    if found["type"] == "extra_forbidden":
        fields = Mix.model_fields if path.startswith("mix[") else Plan.model_fields
        return path, f"there is no such field; there are {', '.join(fields)}"
    sentence = str(found["msg"]).removeprefix("Value error, ")
    got = found.get("input")
    shown = f" (got {got!r})" if isinstance(got, str | int | float | bool) else ""
    return path, sentence[0].lower() + sentence[1:] + ("" if found["type"] == "value_error" else shown)
