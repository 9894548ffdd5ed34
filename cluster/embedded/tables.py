"""(placeholder of this slice)"""

from dataclasses import dataclass

from cluster.embedded.kinds import Kind
from cluster.embedded.read import Shape
from cluster.embedded.status import Object
from cluster.embedded.store import Entry


@dataclass(frozen=True, slots=True)
class Wish:
    version: str


def render(kind: Kind, entries: list[Entry], wish: Wish, metadata: Object) -> bytes:
    raise NotImplementedError


def watch_shape(kind: Kind, wish: Wish) -> Shape:
    raise NotImplementedError
