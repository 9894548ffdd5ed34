"""A brief becomes a VirtualService that this mesh accepts and Istio understands."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.api import validate
from mesh.api.brief import AREAS, Brief

SOUTH = ("Southern Spain",)


def test_the_brief_that_marketing_wants() -> None:
    found = Brief("reviews", "v3", "v1", SOUTH, ("iPhone",), 50).virtual_service()
    assert validate(found) == []
    assert found["metadata"]["annotations"] == {"mesh-lab.io/sticky": "cookie:user"}
    audience, others = found["spec"]["http"]
    assert audience["match"] == [
        {
            "headers": {
                "x-geo-country": {"exact": "ES"},
                "x-geo-region": {"regex": "AN|MC|CE|ML"},
                "x-device-family": {"exact": "iPhone"},
            }
        }
    ]
    assert [(to["destination"]["subset"], to["weight"]) for to in audience["route"]] == [
        ("v3", 50),
        ("v1", 50),
    ]
    assert [to["destination"]["subset"] for to in others["route"]] == ["v1"]


@pytest.mark.parametrize("areas", [(), SOUTH, ("Iberia",), tuple(AREAS)])
@pytest.mark.parametrize("devices", [(), ("iPhone",), ("Pixel 9 (Pro)", "iPad")])
@pytest.mark.parametrize("share", [0, 1, 100])
def test_every_brief_is_a_valid_object(areas: Any, devices: Any, share: int) -> None:
    brief = Brief("reviews", "v3", "v1", areas, devices, share, "header:x-user", "autumn")
    assert validate(brief.virtual_service()) == []


def test_without_audience_the_share_is_of_everybody() -> None:
    (rule,) = Brief("reviews", "v3", "v1", share=5).virtual_service()["spec"]["http"]
    assert "match" not in rule


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"areas": ("Atlantis",)}, "no area 'Atlantis'"),
        ({"share": 101}, "0 to 100"),
        ({"rest": "v3"}, "same subset"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Brief(**{"host": "reviews", "feature": "v3", "rest": "v1", **wrong})
