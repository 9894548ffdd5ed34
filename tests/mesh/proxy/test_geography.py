"""Places of addresses: from the real database, and what is no place."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy.geography import Atlas, Place, atlas, installed, public_address, read_place


def test_addresses_have_places_in_the_city_database() -> None:
    world = atlas(installed())
    assert world.place("83.36.1.1") == Place("ES", "AN", "Vélez-Málaga")
    assert world.place("::ffff:83.36.1.1") == Place("ES", "AN", "Vélez-Málaga")
    assert world.place("2a0c:5a80::1") == Place("ES")
    assert world.place("8.8.8.8") == Place("US")


NOWHERE = [
    *("nonsense", "unknown", "83.36.1", "83.36.1.1:80", "10.0.0.1", "127.0.0.1", "169.254.1.1", "0.0.0.0"),
    *("240.0.0.1", "255.255.255.255", "100.64.0.1", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0"),
    *("fd00::1", "2a0c:5a80::1%eth0", "2001:db8::1", "[2a0c:5a80::1]"),
]


@pytest.mark.parametrize("address", ["", " 83.36.1.1", *NOWHERE, "83.36.1.1" * 1000])
def test_what_is_no_public_address_is_nowhere(address: str) -> None:
    assert public_address(address) is None
    assert atlas(installed()).place(address) is None


@given(st.ip_addresses())
def test_every_address_has_a_place_or_none(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    place = atlas(installed()).place(str(address))
    assert place is None or len(place.country) == 2


def test_a_missing_or_broken_database_knows_no_place_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing, broken, cut = tmp_path / "missing.mmdb", tmp_path / "broken.mmdb", tmp_path / "cut.mmdb"
    broken.write_bytes(b"this is no database" * 100)
    cut.write_bytes(Path(installed()).read_bytes()[:100_000])
    for path in (missing, broken, cut, tmp_path):
        assert atlas(str(path)).place("83.36.1.1") is None
        assert str(path) in caplog.text


def test_a_database_with_a_broken_middle_is_survived(tmp_path: Path) -> None:
    torn = tmp_path / "torn.mmdb"
    data = bytearray(Path(installed()).read_bytes())
    data[20_000_000:40_000_000] = b"\xff" * 20_000_000
    torn.write_bytes(data)
    world = Atlas(str(torn))
    for address in ("83.36.1.1", "8.8.8.8", "2a0c:5a80::1", "1.1.1.1"):
        world.place(address)


def test_a_database_is_opened_once_until_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "some.mmdb"
    path.write_bytes(b"broken")
    first = atlas(str(path))
    assert atlas(str(path)) is first
    path.write_bytes(b"broken in another way")
    assert atlas(str(path)) is not first


@pytest.mark.parametrize("record", [None, "ES", {}, {"country": {}}, {"country": None}])
def test_a_record_without_country_is_no_place(record: object) -> None:
    assert read_place(record) is None
