"""What the files of a volume are: ConfigMaps, Secrets, tokens and the downward API as a mapping path -> content.

Written as Kubernetes' AtomicWriter does: into a new hidden directory, to which the link `..data` is then
switched, so that a reader sees all files of one version or all of the next.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.embedded.kube import CONFIGMAPS, Object, Resource
from cluster.embedded.kubelet import downward
from cluster.embedded.kubelet.environment import Lookup, data_of

DEFAULT_MODE = 0o644


@dataclass(frozen=True)
class File:
    """Content and permission bits."""

    content: bytes
    mode: int = DEFAULT_MODE


Payload = dict[str, File]


class MountError(Exception):
    """A volume cannot be made (yet): FailedMount, with Kubernetes' message."""


async def keyed(resource: Resource, namespace: str, source: Object, mode: int, lookup: Lookup) -> Payload:
    """Files of a ConfigMap or Secret: all keys, or `items`."""
    name = source.get("name") or source.get("secretName", "")
    obj = await lookup(resource, namespace, name)
    if obj is None:
        if source.get("optional"):
            return {}
        raise MountError(f'{resource.kind.lower()} "{name}" not found')
    data = data_of(obj)
    if not source.get("items"):
        return {key: File(content, mode) for key, content in data.items()}
    files: Payload = {}
    for item in source["items"]:
        if item["key"] in data:
            files[relative(item["path"])] = File(data[item["key"]], item.get("mode") or mode)
        elif not source.get("optional"):
            kind = "configmap" if resource is CONFIGMAPS else "secret"
            raise MountError(f"{kind} references non-existent {kind} key: {item['key']}")
    return files


def downward_files(pod: Object, source: Object, mode: int, addresses: tuple[str, str]) -> Payload:
    """Files of a downwardAPI volume."""
    containers = {
        c["name"]: c for c in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    }
    files: Payload = {}
    for item in source.get("items") or []:
        try:
            if ref := item.get("fieldRef"):
                value = downward.field(pod, ref["fieldPath"], addresses)
            else:
                ref = item["resourceFieldRef"]
                value = downward.resource(
                    containers[ref["containerName"]], ref["resource"], ref.get("divisor")
                )
        except (downward.FieldError, KeyError) as error:
            raise MountError(f"downward API {item.get('path')}: {error}") from error
        files[relative(item["path"])] = File(value.encode(), item.get("mode") or mode)
    return files


def relative(path: str) -> str:
    """`path` itself; MountError if it leads out of its directory."""
    if path.startswith("/") or ".." in path.split("/"):
        raise MountError(f"invalid path {path}: must be relative and must not contain '..'")
    return path


def same(directory: Path, files: Payload) -> bool:
    """Whether the directory already shows exactly these files."""
    data = directory / "..data"
    if not data.exists():
        return False
    version = data.resolve()
    present = {str(p.relative_to(version)): p.read_bytes() for p in version.rglob("*") if p.is_file()}
    resolved = {str(Path(name)): file.content for name, file in files.items()}
    return present == resolved


def write(directory: Path, files: Payload) -> None:
    """Make the directory show these files, all at once."""
    directory.mkdir(parents=True, exist_ok=True)
    version = directory / f"..{time.time_ns()}"
    version.mkdir()
    for name, file in files.items():
        path = version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
    data, fresh = directory / "..data", directory / "..data_tmp"
    old = data.resolve() if data.is_symlink() else None
    fresh.symlink_to(version.name)
    fresh.replace(data)
    _link(directory, {name.split("/")[0] for name in files})
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _link(directory: Path, names: set[str]) -> None:
    """Top-level names point through `..data`; those that are gone are removed."""
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()
    for name in names:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
