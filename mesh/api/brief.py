"""The marketing brief as an object: who shall see a feature, and the VirtualService that this stands for.

"Only in Southern Spain, only on iPhones, and for half of the users" is a `Brief`. Pure: no cluster, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.api.sticky import SALT, STICKY

AREAS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Southern Spain": {"ES": ("AN", "MC", "CE", "ML")},
    "Spain": {"ES": ()},
    "Iberia": {"ES": (), "PT": ()},
}
"""Named areas: ISO 3166-1 codes of countries, each with the ISO 3166-2 codes within it, or none for all of it."""


@dataclass(frozen=True)
class Brief:
    """An audience and its share. Raises ValueError with one sentence for what cannot be meant.

    `share` is in percent of the users that `key` tells apart (`cookie:NAME` or `header:NAME`). The feature is what
    the subset `feature` of service `host` has; everybody else gets the subset `rest`.
    """

    host: str
    feature: str
    rest: str
    areas: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    share: int = 100
    key: str = "cookie:user"
    salt: str = ""
    namespace: str = field(default="default", kw_only=True)

    def __post_init__(self) -> None:
        if unknown := [area for area in self.areas if area not in AREAS]:
            raise ValueError(f"there is no area {unknown[0]!r}; there are {', '.join(AREAS)}")
        if not 0 <= self.share <= 100:
            raise ValueError(f"a share is 0 to 100 percent, not {self.share}")
        if self.feature == self.rest:
            raise ValueError(f"the feature and the rest are the same subset, {self.rest!r}")

    def virtual_service(self) -> dict[str, Any]:
        """The object to apply. Its rules need the headers that the gateway sets, see `x-geo-country` and others."""
        annotations = {STICKY: self.key} | ({SALT: self.salt} if self.salt else {})
        split = [self._to(self.feature, self.share), self._to(self.rest, 100 - self.share)]
        audience: dict[str, Any] = {"name": "audience", "route": split}
        if match := self._match():
            audience["match"] = match
        others = {"name": "others", "route": [self._to(self.rest, 100)]}
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": self.host, "namespace": self.namespace, "annotations": annotations},
            "spec": {"hosts": [self.host], "http": [audience, others] if match else [audience]},
        }

    def _to(self, subset: str, weight: int) -> dict[str, Any]:
        return {"destination": {"host": self.host, "subset": subset}, "weight": weight}

    def _match(self) -> list[dict[str, Any]]:
        """One entry a country: entries are alternatives, the headers of one entry must all fit."""
        device = {"x-device-family": _one_of(self.devices)} if self.devices else {}
        countries = {country: regions for area in self.areas for country, regions in AREAS[area].items()}
        if not countries:
            return [{"headers": device}] if device else []
        return [
            {"headers": {"x-geo-country": {"exact": country}, **_within(regions), **device}}
            for country, regions in countries.items()
        ]


def _within(regions: tuple[str, ...]) -> dict[str, Any]:
    return {"x-geo-region": _one_of(regions)} if regions else {}


def _one_of(values: tuple[str, ...]) -> dict[str, str]:
    if len(values) == 1:
        return {"exact": values[0]}
    return {"regex": "|".join(map(re.escape, values))}
