"""The colours of the versions can be told apart: on both pages, on a projector, by the colour-blind."""

from itertools import combinations

import pytest

from widgets.palette import FAILED, NEUTRAL, OTHERS, VERSIONS, colours, patterns

LIGHT, DARK = "#FFFFFF", "#111111"  # JupyterLab's pages

# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision deficiency"
# (2009), severity 1.0, on linear RGB.
SIGHTS = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def linear(colour: str) -> list[float]:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]


def times(row: tuple[float, ...], values: list[float]) -> float:
    return sum(a * b for a, b in zip(row, values, strict=True))


def contrast(one: str, two: str) -> float:
    dark, bright = sorted(times((0.2126, 0.7152, 0.0722), linear(colour)) for colour in (one, two))
    return (bright + 0.05) / (dark + 0.05)


def lab(rgb: list[float]) -> list[float]:
    """CIELAB of linear RGB, D65."""
    matrix = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    white = (0.9505, 1.0, 1.089)
    xyz = [times(row, rgb) / w for row, w in zip(matrix, white, strict=True)]
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def difference(one: str, two: str, sight: str) -> float:
    seen = [
        lab([min(1.0, max(0.0, times(row, linear(colour)))) for row in SIGHTS[sight]])
        for colour in (one, two)
    ]
    return sum((a - b) ** 2 for a, b in zip(*seen, strict=True)) ** 0.5


@pytest.mark.parametrize("colour", [*VERSIONS.values(), *OTHERS, FAILED, NEUTRAL])
@pytest.mark.parametrize("page", [LIGHT, DARK])
def test_every_colour_stands_out_from_the_page(colour: str, page: str) -> None:
    assert contrast(colour, page) >= 3.0


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("pair", list(combinations([*VERSIONS, "failed"], 2)), ids="-".join)
def test_versions_are_told_apart(sight: str, pair: tuple[str, str]) -> None:
    one, two = (VERSIONS.get(name, FAILED) for name in pair)
    assert difference(one, two, sight) >= 20  # 2.3 is just noticeable


def test_a_version_keeps_its_colour_whatever_else_is_shown() -> None:
    assert colours(["v3", "v1"])["v3"] == colours(["v2", "v3", "canary", "unknown"])["v3"]
    assert colours(["unknown"]) == {"unknown": FAILED}
    assert len(set(colours(["v1", "v2", "v3", "a", "b", "unknown"]).values())) == 6


def test_patterns_differ() -> None:
    assert len(set(patterns(["v1", "v2", "v3", "unknown"]).values())) == 4
