"""Which kinds of objects does this API have? Asked of the API itself, so that kinds of tomorrow are found
too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cluster.embedded.kube import Api, Object, Resource


@dataclass(frozen=True)
class Found:
    """A kind, and what can be done with it."""

    resource: Resource
    verbs: frozenset[str]


async def discover(api: Api) -> list[Found]:
    """Every kind that is stored, in its preferred version (no subresources)."""
    groups = (await api.request("GET", "/apis"))["groups"]
    paths = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    answers = await asyncio.gather(*(api.request("GET", path) for path in paths))
    return [found for answer in answers for found in kinds_of(answer)]


def kinds_of(answer: Object) -> list[Found]:
    """The kinds in an APIResourceList."""
    group, _, version = answer["groupVersion"].rpartition("/")
    return [
        Found(
            Resource(group, version, item["name"], item["kind"], item["namespaced"]), frozenset(item["verbs"])
        )
        for item in answer["resources"]
        if "/" not in item["name"]
    ]
