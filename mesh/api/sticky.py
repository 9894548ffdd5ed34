"""Half of the users instead of half of the requests: annotations of a VirtualService that make its splits sticky.

    mesh-lab.io/sticky: cookie:user       who somebody is tells a cookie, or a header: `header:x-user`
    mesh-lab.io/sticky-salt: autumn-25    two splits with the same salt choose alike (default: namespace/name)

Istio ignores annotations it does not know: there the same weights are a split by request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from mesh.api.problems import Problem

STICKY = "mesh-lab.io/sticky"
SALT = "mesh-lab.io/sticky-salt"
_TOKEN = re.compile(
    r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}"
)  # RFC 9110, section 5.6.2; cookie names are tokens too


class Sticky(NamedTuple):
    """Where the key of a user is found, and what makes this experiment independent of others."""

    kind: Literal["cookie", "header"]
    name: str
    salt: str


def sticky_of(annotations: Mapping[str, str], default_salt: str) -> Sticky | None:
    """What the annotations ask for; None where they ask for nothing, or for nothing that can be done."""
    if STICKY not in annotations or any(annotation_problems(annotations)):
        return None
    kind, _, name = annotations[STICKY].partition(":")
    return Sticky("cookie" if kind == "cookie" else "header", name, annotations.get(SALT) or default_salt)


def annotation_problems(annotations: Mapping[str, object]) -> Iterator[Problem]:
    """What is wrong with them."""
    if STICKY not in annotations:
        if SALT in annotations:
            yield Problem(f"metadata.annotations[{SALT}]", f"has no effect without {STICKY}")
        return
    kind, _, name = str(annotations[STICKY]).partition(":")
    if kind not in ("cookie", "header") or not _TOKEN.fullmatch(name):
        wrong = f"must be cookie:NAME or header:NAME, not {annotations[STICKY]!r}"
        yield Problem(f"metadata.annotations[{STICKY}]", wrong)
