"""Fetches the public keys of token issuers for RequestAuthentications, so that no proxy has to.

Beside the order of a config change: new keys are a new world like any other change. As istiod does: from `jwksUri`,
else from where the issuer's OpenID configuration says; again every 20 minutes, and sooner after a failure. Keys once
fetched stay good while an issuer cannot be reached.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import aiohttp

from mesh.api.request_authentication import JWTRule, jwks_problem, uri_problem

log = logging.getLogger(__name__)

Source = tuple[str, str]
"""(jwksUri, issuer) of a rule; the URI may be ""."""

REFRESH = 20 * 60.0
"""Seconds until keys are fetched again."""

RETRY = 10.0
"""Seconds until a failed fetch is tried again."""

LARGEST = 1 << 20
"""Bytes of a key set."""


def sources(rules: Iterable[JWTRule]) -> frozenset[Source]:
    """From where keys are needed: for all rules that do not carry their own."""
    return frozenset((rule.jwks_uri, rule.issuer) for rule in rules if not rule.jwks)


class FetchError(Exception):
    """Keys could not be had; the message says why."""


@dataclass
class KeyFetcher:
    """Keeps `keys` fresh for what `wanted` says; calls `on_change` with them when they differ."""

    wanted: Callable[[], Iterable[JWTRule]]
    on_change: Callable[[dict[Source, str]], None]
    keys: dict[Source, str] = field(default_factory=dict)
    _due: dict[Source, float] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def news(self) -> None:
        """The rules may have changed."""
        self._news.set()

    async def run(self) -> None:
        """Fetch what is due, until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                self._news.clear()
                await self._round(session)
                pause = min(self._due.values(), default=time.monotonic() + REFRESH) - time.monotonic()
                try:
                    await asyncio.wait_for(self._news.wait(), max(pause, 0.05))
                except TimeoutError:
                    continue

    async def _round(self, session: aiohttp.ClientSession) -> None:
        wanted, before = sources(self.wanted()), dict(self.keys)
        for gone in self._due.keys() - wanted:
            del self._due[gone]
            self.keys.pop(gone, None)
        now = time.monotonic()
        due = [source for source in sorted(wanted) if self._due.get(source, 0.0) <= now]
        await asyncio.gather(*(self._renew(session, source) for source in due))
        if self.keys != before:
            self.on_change(dict(self.keys))

    async def _renew(self, session: aiohttp.ClientSession, source: Source) -> None:
        try:
            self.keys[source] = await fetch(session, *source)
            self._due[source] = time.monotonic() + REFRESH
        except FetchError as error:
            log.warning("keys of issuer %r: %s; trying again in %.0f s", source[1], error, RETRY)
            self._due[source] = time.monotonic() + RETRY


async def fetch(session: aiohttp.ClientSession, uri: str, issuer: str) -> str:
    """The key set, as JSON text. Raises FetchError."""
    if not uri:
        where = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        if uri_problem(where):
            raise FetchError("it has no jwksUri, and the issuer is no URL to ask for it")
        try:
            uri = str(json.loads(await _get(session, where))["jwks_uri"])
        except (ValueError, KeyError, TypeError) as error:
            raise FetchError(f"{where} does not say where its keys are: {error!r}") from error
    text = await _get(session, uri)
    if wrong := jwks_problem(text):
        raise FetchError(f"{uri} {wrong}")
    return text


async def _get(session: aiohttp.ClientSession, uri: str) -> str:
    if wrong := uri_problem(uri):
        raise FetchError(f"the URL {wrong}")
    try:
        async with session.get(uri) as response:
            if response.status != 200:
                raise FetchError(f"{uri} answers with status {response.status}")
            body = await response.content.read(LARGEST)
            return body.decode()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise FetchError(f"{uri} cannot be read: {error!r}") from error
