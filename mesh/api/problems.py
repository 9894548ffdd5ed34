"""What is wrong with an object, said so that a person can mend it: a path into the YAML and one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` is as one would write it in YAML terms (`spec.http[0].route[1].weight`); `sentence` says what
    is wrong.
    """

    path: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence

    def under(self, parent: str) -> Problem:
        """The same problem seen from a level further up."""
        if not self.path:
            return Problem(parent, self.sentence)
        joint = "" if self.path.startswith("[") or not parent else "."
        return Problem(f"{parent}{joint}{self.path}", self.sentence)


class Invalid(ValueError):
    """An object that is refused. `problems` is never empty."""

    def __init__(self, problems: Iterable[Problem], subject: str = "") -> None:
        self.problems = tuple(problems)
        self.subject = subject
        said = "; ".join(str(problem) for problem in self.problems)
        super().__init__(f"{subject}: {said}" if subject else said)
