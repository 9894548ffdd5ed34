"""Waiting on an API server that goes away for a moment, and on one that stays away."""

from __future__ import annotations

from typing import Any

import pytest

from cluster import api as apis
from cluster.api import Api, ApiError, Resource


class Faulty(Api):
    """Answers a list after so many failures."""

    def __init__(self, *errors: ApiError) -> None:
        self.errors = list(errors)
        self._by_group_version = {"v1": [Resource("v1", "nodes", "Node", False)]}

    def request(self, method: str, path: str, *rest: Any, **more: Any) -> tuple[Any, tuple[str, ...]]:
        if self.errors:
            raise self.errors.pop(0)
        return {"items": [{"metadata": {"name": "n"}}], "metadata": {"resourceVersion": "1"}}, ()


def test_it_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apis, "_PAUSE", 0.001)
    away = Faulty(ApiError(0, "no answer"), ApiError(503, "busy"))
    assert away.wait("v1", "Node", None, lambda have: "n" in have, 5.0)


def test_it_gives_up_at_the_end_and_at_once_where_asking_is_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apis, "_PAUSE", 0.001)
    with pytest.raises(ApiError, match="forbidden"):
        Faulty(ApiError(403, "forbidden")).wait("v1", "Node", None, bool, 5.0)
    monkeypatch.setattr(apis, "_PAUSE", 10.0)
    with pytest.raises(ApiError, match="no answer"):
        Faulty(ApiError(0, "no answer")).wait("v1", "Node", None, bool, 1.0)
