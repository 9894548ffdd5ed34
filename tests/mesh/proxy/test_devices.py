"""Devices of real User-Agents, and what no User-Agent can tell."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.devices import Device, device

_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
_ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 "

AGENTS = {
    _IPHONE + "Version/18.5 Mobile/15E148 Safari/604.1": Device("iPhone", "iOS", "phone"),
    _IPHONE + "CriOS/137.0.7151.79 Mobile/15E148 Safari/604.1": Device("iPhone", "iOS", "phone"),
    "Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 "
    "Mobile/15E148 Safari/604.1": Device("iPad", "iOS", "tablet"),
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 "
    "Mobile Safari/537.36": Device("Pixel 9", "Android", "phone"),
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 "
    "Safari/537.36": Device("", "Windows", "desktop"),
    _MAC + "Version/18.5 Safari/605.1.15": Device("Mac", "macOS", "desktop"),
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": Device("Spider", "", "bot"),
    "curl/8.14.1": Device(),
    "": Device(),
}


@pytest.mark.parametrize("agent", AGENTS)
def test_a_user_agent_tells_the_device(agent: str) -> None:
    assert device(agent) == AGENTS[agent]


def test_an_ipad_or_iphone_that_asks_for_the_desktop_site_is_a_mac() -> None:
    ipad = _MAC + "Version/18.5 Safari/605.1.15"  # what Safari on an iPad sends, letter by letter
    assert device(ipad).family == "Mac"


def test_client_hints_tell_what_a_reduced_user_agent_hides() -> None:
    reduced = _ANDROID + "Mobile Safari/537.36"
    assert device(reduced).type == "phone"
    assert device(reduced, '"Android"', "?1", '"Pixel 9"') == Device("Pixel 9", "Android", "phone")
    assert device(_ANDROID + "Safari/537.36", '"Android"', "?0").type == "tablet"
    assert device("", '"iOS"', "?1", '"iPhone"') == Device("iPhone", "iOS", "phone")


@pytest.mark.parametrize("hint", ["iOS", '"', '""', '"\x00"', '"' + "x" * 1000 + '"', '"ñ"', '"Unknown"'])
def test_a_hint_that_is_none_is_ignored(hint: str) -> None:
    assert device(_MAC + "Version/18.5 Safari/605.1.15", hint, "maybe", hint).family == "Mac"


@given(st.text(), st.text(), st.text(), st.text())
def test_whatever_is_sent_has_an_answer_that_can_be_a_header(a: str, p: str, m: str, model: str) -> None:
    for value in device(a, p, m, model):
        assert value.isprintable()


@pytest.mark.parametrize("agent", ["x" * 8192, "Mozilla/5.0 (" * 600, "iPhone " * 1000, "(;" * 4096])
def test_a_huge_user_agent_costs_no_time(agent: str) -> None:
    device("")
    began = time.process_time()
    device(agent)
    assert time.process_time() - began < 0.1
