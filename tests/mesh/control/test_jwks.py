"""Public keys of token issuers are fetched, kept while an issuer is away, and renewed when rules change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from joserfc.jwk import RSAKey

from mesh.api.request_authentication import JWTRule
from mesh.control.jwks import FetchError, KeyFetcher, Source, fetch

KEYS = json.dumps({"keys": [RSAKey.generate_key(2048).as_dict(private=False)]})


@dataclass
class Issuer:
    """A server of keys, which may be told to fail."""

    url: str = ""
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.Response:
        status, text = self.answers.get(request.path, (404, ""))
        return web.Response(status=status, text=text)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    found = Issuer()
    application = web.Application()
    application.router.add_get("/{path:.*}", found.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    found.answers["/keys"] = (200, KEYS)
    yield found
    await runner.cleanup()


async def test_keys_come_from_the_uri_or_from_where_the_issuer_says(issuer: Issuer) -> None:
    issuer.answers["/.well-known/openid-configuration"] = (
        200,
        json.dumps({"jwks_uri": f"{issuer.url}/keys"}),
    )
    async with aiohttp.ClientSession() as session:
        assert await fetch(session, f"{issuer.url}/keys", "x") == KEYS
        assert await fetch(session, "", issuer.url) == KEYS


@pytest.mark.parametrize(
    ("uri", "answer", "said"),
    [
        ("/keys", (500, ""), "status 500"),
        ("/keys", (200, "{}"), "Key Set"),
        ("/keys", (200, '{"keys": [{"kty": "oct", "k": "AA"}]}'), "private key"),
        ("", (200, "{}"), "does not say where"),
    ],
)
async def test_what_is_no_key_set_is_not_taken(
    issuer: Issuer, uri: str, answer: tuple[int, str], said: str
) -> None:
    issuer.answers = {"/keys": answer, "/.well-known/openid-configuration": answer}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(FetchError, match=said):
            await fetch(session, issuer.url + uri if uri else "", issuer.url)


async def test_rules_come_and_go_and_an_issuer_may_be_away(issuer: Issuer) -> None:
    rules = [JWTRule.model_validate({"issuer": "a", "jwksUri": f"{issuer.url}/keys"})]
    seen: asyncio.Queue[dict[Source, str]] = asyncio.Queue()
    fetcher = KeyFetcher(lambda: rules, seen.put_nowait)
    task = asyncio.ensure_future(fetcher.run())
    assert await asyncio.wait_for(seen.get(), 5) == {(f"{issuer.url}/keys", "a"): KEYS}
    issuer.answers["/keys"] = (500, "")
    fetcher._due.clear()
    fetcher.news()
    rules.append(JWTRule.model_validate({"issuer": "b", "jwksUri": f"{issuer.url}/other"}))
    issuer.answers["/other"] = (200, KEYS)
    both = await asyncio.wait_for(seen.get(), 5)
    assert set(both) == {(f"{issuer.url}/keys", "a"), (f"{issuer.url}/other", "b")}, (
        "the old keys are still good"
    )
    rules.clear()
    fetcher.news()
    assert await asyncio.wait_for(seen.get(), 5) == {}
    task.cancel()
