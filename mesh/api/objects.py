"""A config object: the parsed spec with the metadata that decides where it applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mesh.api.model import Model

S = TypeVar("S", bound=Model, covariant=True)


@dataclass(frozen=True, slots=True)
class ConfigObject(Generic[S]):
    """One valid object of one of our kinds. `created` is epoch seconds; older objects win in a conflict."""

    kind: str
    namespace: str
    name: str
    spec: S
    api_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: float = 0.0
    generation: int = 0
    resource_version: str = ""
    uid: str = ""

    @property
    def title(self) -> str:
        """As people say it: `VirtualService default/reviews`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"
