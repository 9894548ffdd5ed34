"""The first step of a request: what does this method and URL ask for?

Kubernetes has one regular grammar of paths; reading it gives the verb and resource that authorization decides
about and that `verbs.py` carries out. (apiserver `request/requestinfo.go`.)

    /api/v1/...  or  /apis/GROUP/VERSION/...        followed by one of
    RESOURCE[/NAME[/SUBRESOURCE[/REST...]]]
    namespaces/NS/RESOURCE[/NAME[/SUBRESOURCE[/REST...]]]
    watch/...                                       the old way to ask for a watch
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote

VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
NAMESPACE_PARTS = {"status", "finalize"}
"""Subresources of a namespace itself; any other word after namespaces/NS is a resource in it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. `verb` is Kubernetes' (get, list, watch, create, update, patch, delete,
    deletecollection).

    A request for a path outside the resources has `resource` "" and only `path` and `verb`.
    """

    verb: str
    path: str
    group: str = ""
    version: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


def read(method: str, path: str, query: Mapping[str, str]) -> Target:
    """What `method path?query` asks for; `path` is still percent-encoded, so that `/` in a proxied path
    survives.
    """
    target = Target(VERBS.get(method, method.lower()), path)
    parts = [part for part in path.strip("/").split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        return _resource(replace(target, version=parts[1]), parts[2:], query)
    if len(parts) >= 4 and parts[0] == "apis":
        return _resource(replace(target, group=parts[1], version=parts[2]), parts[3:], query)
    return replace(target, verb=method.lower())


def _resource(target: Target, parts: list[str], query: Mapping[str, str]) -> Target:
    if parts[0] == "watch":
        target, parts = replace(target, verb="watch"), parts[1:]
    if not parts:
        return target
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = unquote(parts[1])
        if len(parts) > 2 and parts[2] not in NAMESPACE_PARTS:
            parts = parts[2:]
    parts += [""] * (3 - len(parts))
    target = replace(
        target,
        namespace=namespace,
        resource=parts[0],
        name=unquote(parts[1]),
        subresource=parts[2],
        rest="/".join(parts[3:]),
    )
    return replace(target, verb=_verb(target, query))


def _verb(target: Target, query: Mapping[str, str]) -> str:
    if target.verb == "delete" and not target.name:
        return "deletecollection"
    if target.verb == "get" and not target.subresource and query.get("watch", "") in ("1", "true", "True"):
        return "watch"
    if target.verb == "get" and not target.name:
        return "list"
    return target.verb
