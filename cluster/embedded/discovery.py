"""What is served? /version, /api, /apis and the resource lists, as clients discover them."""

import platform
import sys

from cluster.embedded.kinds import Kind, Registry
from cluster.embedded.status import Object, unknown_path

VERSION = "v1.36.0+embedded"

SUBRESOURCE_KINDS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "scale": ("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "binding": ("", "v1", "Binding", ("create",)),
    "log": ("", "v1", "Pod", ("get",)),
    "exec": ("", "v1", "PodExecOptions", ("create", "get")),
    "attach": ("", "v1", "PodAttachOptions", ("create", "get")),
    "portforward": ("", "v1", "PodPortForwardOptions", ("create", "get")),
    "finalize": ("", "v1", "Namespace", ("update",)),
}
"""Subresource -> (group, version, kind, verbs); the others are of their resource's kind."""


def version() -> Object:
    return {
        "major": "1",
        "minor": "36",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": sys.implementation.name,
        "platform": f"{sys.platform}/{platform.machine()}",
    }


def core_versions(server: str) -> Object:
    """/api"""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def _group(name: str, versions: list[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def groups(registry: Registry) -> Object:
    """/apis"""
    listed = [_group(name, versions) for name, versions in registry.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def group(registry: Registry, name: str) -> Object:
    """/apis/GROUP"""
    versions = registry.groups().get(name)
    if not versions or not name:
        raise unknown_path()
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(name, versions)


def resources(registry: Registry, group_name: str, version_name: str) -> Object:
    """/api/v1 and /apis/GROUP/VERSION"""
    kinds = [kind for kind in registry.all() if (kind.group, kind.version) == (group_name, version_name)]
    if not kinds:
        raise unknown_path()
    listed = [entry for kind in kinds for entry in [_resource(kind), *_subresources(kind)]]
    at = f"{group_name}/{version_name}" if group_name else version_name
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": at, "resources": listed}


def _resource(kind: Kind) -> Object:
    entry: Object = {
        "name": kind.plural,
        "singularName": kind.singular_name,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    return entry


def _subresources(kind: Kind) -> list[Object]:
    listed = []
    for name in kind.subresources:
        entry: Object = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
        entry |= {"kind": kind.kind, "verbs": ["get", "patch", "update"]}
        if name in SUBRESOURCE_KINDS:
            group_name, version_name, kind_name, verbs = SUBRESOURCE_KINDS[name]
            entry |= {"group": group_name, "version": version_name, "kind": kind_name, "verbs": list(verbs)}
        elif name == "proxy":
            entry |= {
                "kind": f"{kind.kind}ProxyOptions",
                "verbs": ["create", "delete", "get", "patch", "update"],
            }
        listed.append(entry)
    return listed
