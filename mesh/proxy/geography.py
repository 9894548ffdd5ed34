"""Where on Earth an address is: a City database in MaxMind's format, and nothing else. No HTTP in here.

Used by the gateway's geo filter (`filters.geo`), which is told the path of the database by the control plane, which
heard it from the gateway itself (`bootstrap`): so our proxy and an Envoy on the same machine read the same file.
"""

from __future__ import annotations

import ipaddress
import logging
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import maxminddb

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """ISO 3166-1 code of the country, ISO 3166-2 code of the subdivision within it, the city's English name.

    Any of them is "" where the database does not say.
    """

    country: str
    region: str = ""
    city: str = ""


class Atlas:
    """A database at work. A missing or broken one knows no place; that is logged once, when it is opened."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._reader: maxminddb.Reader | None = None
        try:
            self._reader = maxminddb.open_database(path)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            log.error("geography: %s cannot be read (%s); no request gets a place until it can", path, error)

    def place(self, address: str) -> Place | None:
        """Where an address is; None for what is no public address, or not in the database. Never a guess."""
        public = public_address(address)
        if public is None or self._reader is None:
            return None
        try:
            found = self._reader.get(public)
        except (ValueError, maxminddb.InvalidDatabaseError) as error:
            log.warning("geography: %s says nothing about %s: %s", self.path, address, error)
            return None
        return read_place(found)


def public_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, if it is one that the Internet routes: not malformed, private, reserved or with a zone."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return None
        parsed = parsed.ipv4_mapped or parsed
    return parsed if parsed.is_global else None


def read_place(record: Any) -> Place | None:
    """A record of a City database as a place. Source: MaxMind, GeoIP2 City: `country`, `subdivisions`, `city`."""
    if not isinstance(record, dict):
        return None
    country = (record.get("country") or {}).get("iso_code")
    if not country:
        return None
    subdivisions = record.get("subdivisions") or [{}]
    city = ((record.get("city") or {}).get("names") or {}).get("en", "")
    return Place(country, subdivisions[0].get("iso_code", ""), city)


def installed() -> str:
    """Path of the City database that comes with the package maxminddb-geolite2; "" if it is not installed."""
    spec = find_spec("_maxminddb_geolite2")
    for folder in spec.submodule_search_locations or () if spec else ():
        found = Path(folder) / "GeoLite2-City.mmdb"
        if found.is_file():
            return str(found)
    return ""


def atlas(path: str) -> Atlas:
    """The database at `path`, opened once for as long as the file stays the same."""
    try:
        stat = Path(path).stat()
    except OSError:
        return Atlas(path)
    return _opened(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _opened(path: str, modified: int, size: int) -> Atlas:
    return Atlas(path)
