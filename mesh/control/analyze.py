"""What is doubtful between objects that are each valid alone: references to nothing, conflicts, rules never reached.

Codes are those of `istioctl analyze` (istio.io, Reference, Configuration Analysis). Findings become
admission warnings, the `status` of objects and the output of `mesh analyze`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.control.world import World


@dataclass(frozen=True, slots=True)
class Finding:
    """One doubt: `code` as Istio's (IST0101 ...), the object it is about, the path inside it, one sentence."""

    code: str
    level: Literal["Error", "Warning", "Info"]
    kind: str
    namespace: str
    name: str
    path: str
    sentence: str

    def __str__(self) -> str:
        place = f"{self.kind} {self.namespace}/{self.name}"
        return f"{self.level} [{self.code}] ({place}) {self.path}: {self.sentence}"


def analyze(world: World) -> list[Finding]:
    """Every finding about every object, in a stable order. Pure."""
    return []
