"""What kind of device sends a request: User-Agent and client hints as family, system and type. No HTTP in here.

What can be decided and what cannot:

* An iPhone says so in its User-Agent, in every browser on it.
* An iPad has sent the User-Agent of a Mac since iPadOS 13 ("Request Desktop Website" is on by default), and an iPhone
  does when its user asks for the desktop site. Nothing in the request tells them from a Mac: both are `Mac` here, and
  a rule for iPhones misses those few. Only a script in the page could tell (touch points of a Mac: none).
* Chromium's reduced User-Agent says `Android 10; K` for every Android device. The client hints Sec-CH-UA-Platform and
  Sec-CH-UA-Mobile, sent by default, confirm system and type; the model (Sec-CH-UA-Model) comes only where a site asked.
* All of it is what the client says of itself. It is for routing, never for access.
"""

from __future__ import annotations

from typing import NamedTuple

from ua_parser import parse

LONGEST = 2048
"""Bytes of a User-Agent that are looked at. The longest real ones are a quarter of it."""

_TABLETS = ("iPad", "Kindle", "Tablet", "Tab ", "Nexus 7", "Nexus 9", "Nexus 10", "PlayBook", "Xoom")
_SYSTEMS = {"Mac OS X": "macOS", "Chrome OS": "ChromeOS", "Chromium OS": "ChromeOS"}
_COMPUTERS = ("Windows", "macOS", "Linux", "Ubuntu", "Fedora", "ChromeOS", "FreeBSD", "Debian")
_PHONES = ("iOS", "Android", "Windows Phone", "KaiOS", "BlackBerry OS", "HarmonyOS", "Tizen")


class Device(NamedTuple):
    """Names as ua-parser has them, such as `iPhone`, `iOS`; type is phone, tablet, desktop, tv or bot.

    Any of them is "" where the request does not tell.
    """

    family: str = ""
    system: str = ""
    type: str = ""


def device(agent: str, platform: str = "", mobile: str = "", model: str = "") -> Device:
    """The device behind a User-Agent; `platform`, `mobile` and `model` are the client hints as sent.

    Hints are structured fields (RFC 8941): strings in quotes, and ?1 or ?0. A hint goes before the User-Agent.
    """
    found = parse(agent[:LONGEST])
    family = found.device.family if found.device else ""
    system = found.os.family if found.os else ""
    if family in ("Spider", "Other"):
        family, kind = ("", "") if family == "Other" else ("Spider", "bot")
        return Device(family, _SYSTEMS.get(system, system), kind)
    system = _hint(platform) or system
    system = _SYSTEMS.get(system, system)
    family = _hint(model) or family
    if family.startswith("Generic "):  # a phone or a tablet of which nothing is known
        return Device("", system, "tablet" if "Tablet" in family else "phone")
    return Device(family, system, _type(family, system, agent, mobile.strip()))


def _hint(value: str) -> str:
    """The text of a string hint; "" if it is none, or says nothing."""
    value = value.strip()
    if len(value) < 3 or value[0] != '"' or value[-1] != '"' or len(value) > 100 or not value.isascii():
        return ""
    inside = value[1:-1].strip()
    return inside if inside.isprintable() and inside not in ("Unknown", "K") else ""


def _type(family: str, system: str, agent: str, mobile: str) -> str:
    if "TV" in family or "tvOS" in system or "SMART-TV" in agent:
        return "tv"
    if any(word in family for word in _TABLETS):
        return "tablet"
    if mobile == "?1":
        return "phone"
    if system in _PHONES:
        # An Android that does not call itself mobile is a tablet (Android's own rule for browsers).
        return "tablet" if system == "Android" and (mobile == "?0" or "Mobile" not in agent) else "phone"
    return "desktop" if system in _COMPUTERS else ""
