"""kind's own program: the one on PATH, else a pinned version fetched once and checked against its published sum."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from cluster.base import ClusterError
from cluster.embedded.homes import default_state_home
from cluster.engine import architecture

VERSION = "v0.32.0"
"""Its default nodes run Kubernetes 1.36."""
SUMS = {
    "linux-amd64": "50030de23cf40a18505f20426f6a8506bedf13c6e509244bd1fa9463721b0f54",
    "linux-arm64": "b92cd615e97585de8ddade28ed5cd7feb4248d717c233eea5b03c37298900f5d",
    "darwin-amd64": "295ac6d0d634c9819c9907df45e3017d1f13166bd13c3404c45e79f7faa47498",
    "darwin-arm64": "dca67911095a110c2b5c36e26df6cac860c602033e456c0db47be498cdef1ebb",
}
"""SHA-256 of the releases, as the project publishes them beside each."""
URL = "https://kind.sigs.k8s.io/dl/{version}/kind-{system}"
SECONDS = 300.0


def program() -> Path:
    """Where kind is; fetched when it is not on PATH. Raises ClusterError."""
    found = shutil.which("kind")
    return Path(found) if found else fetched()


def system() -> str:
    """This machine as kind's releases name it."""
    return f"{'darwin' if sys.platform == 'darwin' else 'linux'}-{architecture(platform.machine()).lower()}"


def fetched(url: str = URL, sums: dict[str, str] = SUMS) -> Path:
    """The pinned version, from the state home or else from its project's site. Raises ClusterError."""
    name = system()
    if name not in sums:
        raise ClusterError(f"kind has no release for {name}: install it yourself and put it on PATH")
    kept = default_state_home() / "bin" / f"kind-{VERSION}"
    if kept.exists() and _sum(kept.read_bytes()) == sums[name]:
        return kept
    where = url.format(version=VERSION, system=name)
    print(f"kind is not on PATH: fetching {VERSION} from {where}", file=sys.stderr)
    data = _get(where)
    if _sum(data) != sums[name]:
        raise ClusterError(
            f"what {where} gave is not kind {VERSION} (its SHA-256 is {_sum(data)[:12]}...): install kind yourself"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    scratch = kept.with_suffix(f".{os.getpid()}")
    scratch.write_bytes(data)
    scratch.chmod(0o755)
    scratch.replace(kept)
    return kept


def _get(url: str) -> bytes:
    failed = f"kind is not on PATH and cannot be fetched from {url}"
    fix = "install it (kind.sigs.k8s.io), or use --backend embedded"
    try:
        answer = PoolManager().request("GET", url, timeout=SECONDS, retries=2)
    except HTTPError as error:
        raise ClusterError(f"{failed} ({error}): {fix}") from error
    if answer.status != 200:
        raise ClusterError(f"{failed} (HTTP {answer.status}): {fix}")
    return bytes(answer.data)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
