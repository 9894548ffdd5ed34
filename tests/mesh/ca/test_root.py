"""The root of trust and the Secret that keeps it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from mesh.ca.root import RootError, from_secret, key_pem, load_or_create, new_root, to_secret

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Store:
    """An API server's create and get on Secrets: the first create wins."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}

    async def create_secret(self, secret: dict[str, Any]) -> bool:
        await asyncio.sleep(0)
        key = (secret["metadata"]["namespace"], secret["metadata"]["name"])
        return self.secrets.setdefault(key, secret) is secret

    async def read_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return self.secrets.get((namespace, name))


def test_secret_round_trip() -> None:
    root = new_root("cluster.local", NOW)
    again = from_secret(to_secret(root, "mesh-system")["data"])
    assert again.certificate == root.certificate
    assert key_pem(again.key) == key_pem(root.key)


def test_damaged_secret_says_what_to_do() -> None:
    one, other = (to_secret(new_root("cluster.local", NOW), "m")["data"] for _ in range(2))
    for data in (None, {}, {**one, "ca-key.pem": "!!"}, {**one, "ca-key.pem": other["ca-key.pem"]}):
        with pytest.raises(RootError, match=r"istio-ca-secret.*delete the Secret"):
            from_secret(data)


async def test_replicas_starting_together_share_one_root() -> None:
    store = Store()
    roots = await asyncio.gather(*(load_or_create(store, "mesh-system", "cluster.local") for _ in range(5)))
    assert len({root.certificate_pem for root in roots}) == 1
    assert (await load_or_create(store, "mesh-system", "cluster.local")).certificate == roots[0].certificate
