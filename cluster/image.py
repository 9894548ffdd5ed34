"""The lab's image: control plane, sidecar, gateway, telemetry and shop in one, for clusters of real containers.

One base image with Python (by option), one directory of packages collected on the host (`sitepackages`), and a
Dockerfile that copies it. The build itself needs no package index; only where the base has neither iptables nor nft
does it ask the base's package manager for one. The tag is made of the content, so the same content is never built
twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.base import ClusterError
from cluster.engine import CommandError, Engine, architecture, last_line
from cluster.sitepackages import Platform, collect

BASE_ENV = "MESH_LAB_BASE_IMAGE"
DEFAULT_BASE = "python:3.11-slim"
BUILD_SECONDS = 1200.0
MIN_PYTHON = (3, 11)
LOCAL = {"docker": "", "podman": "localhost/"}
"""How each engine calls an image that is from no registry: nodes know it by that name."""
PLAIN_BUILD = {"BUILDX_BUILDER": "default", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
"""Docker: into its own store, one image and nothing beside it, or `kind load` cannot take it over."""
USER = 1337

_FACTS = """
for p in python3 python; do command -v $p >/dev/null 2>&1 && break; done
$p -c 'import platform as p, sys; print(*sys.version_info[:2], p.machine(), p.libc_ver()[0] or "musl")' || exit 1
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
for f in iptables-restore nft; do command -v $f >/dev/null 2>&1 && { echo redirects; break; }; done
exit 0
"""

DOCKERFILE = """\
ARG BASE
FROM ${BASE}
USER root
ENV PATH=/opt/mesh/bin:${PATH}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    PYTHONPATH=/opt/mesh/site PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ARG REDIRECTS
RUN if [ -z "$REDIRECTS" ]; then \\
      if command -v apt-get; then apt-get update -qq && apt-get install -y -qq --no-install-recommends iptables \\
        && rm -rf /var/lib/apt/lists/*; \\
      elif command -v apk; then apk add --no-cache iptables; \\
      elif command -v dnf; then dnf install -y iptables-nft && dnf clean all; \\
      elif command -v microdnf; then microdnf install -y iptables-nft && microdnf clean all; \\
      else echo "the base image has neither iptables nor nft, and no package manager to install one" >&2; exit 1; fi; \\
    fi
COPY site /opt/mesh/site
RUN mkdir -p /opt/mesh/bin \\
    && ln -s "$(command -v python3 || command -v python)" /opt/mesh/bin/python \\
    && /opt/mesh/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/mesh/site
USER 1337:1337
WORKDIR /
ENTRYPOINT []
CMD ["python"]
"""


@dataclass(frozen=True)
class Base:
    """The base image and what it says of itself."""

    name: str
    id: str
    platform: Platform
    redirects: bool
    """It has iptables or nft."""


def ensure(engine: Engine, version: str, base_name: str = "") -> str:
    """The lab image with this version's content, built unless it is there; its name. Raises ClusterError."""
    base = look_at(engine, base_name or os.environ.get(BASE_ENV) or DEFAULT_BASE)
    with tempfile.TemporaryDirectory(prefix="mesh-lab-image-") as scratch:
        context = Path(scratch)
        collect(context / "site", base.platform)
        (context / "Dockerfile").write_text(DOCKERFILE)
        _same_everywhere(context)
        name = f"{LOCAL[engine.program]}service-mesh-lab:{version}-{digest(context, base.id)}"
        if not engine.has_image(name):
            build(engine, context, base, name)
    return name


def look_at(engine: Engine, name: str) -> Base:
    """Ask the base image which Python it has and on what. Raises ClusterError with the fix."""
    if not engine.has_image(name):
        engine.pull(name)
    try:
        said = engine.run(
            "run", "--rm", "--network", "none", "--entrypoint", "sh", name, "-c", _FACTS,
            what=f"base image {name}", timeout=120,
        )  # fmt: skip
    except CommandError as error:
        raise ClusterError(
            f"base image {name} has no Python that runs ({last_line(error.said)}); name one that has Python 3.11 or "
            f"newer with --base-image or {BASE_ENV}"
        ) from error
    words = said.split()
    major, minor, machine, libc = words[:4]
    if (int(major), int(minor)) < MIN_PYTHON:
        raise ClusterError(
            f"base image {name} has Python {major}.{minor}; name one with 3.11 or newer with --base-image"
        )
    platform = Platform(f"{major}.{minor}", architecture(machine), libc)
    return Base(name, engine.image_id(name), platform, "redirects" in words)


def digest(context: Path, base_id: str) -> str:
    """Twelve hex digits of everything that goes in."""
    found = hashlib.sha256(base_id.encode())
    for path in sorted(p for p in context.rglob("*") if p.is_file()):
        found.update(f"{path.relative_to(context)}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _same_everywhere(context: Path) -> None:
    """Whoever builds, at whatever time and with whatever umask: the same layers, readable for all."""
    for path in [context, *context.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (0, 0), follow_symlinks=False)


def build(engine: Engine, context: Path, base: Base, name: str) -> None:
    """Build. Without network where the base has all that is needed. Raises ClusterError."""
    network = ["--network", "none"] if base.redirects else []
    try:
        engine.run(
            "build", "--tag", name, *network, "--build-arg", f"BASE={base.name}",
            "--build-arg", f"REDIRECTS={'yes' if base.redirects else ''}", str(context),
            what="the lab image", timeout=BUILD_SECONDS, env=PLAIN_BUILD,
        )  # fmt: skip
    except CommandError as error:
        raise ClusterError(
            f"the lab image cannot be built on {base.name}: {last_line(error.said)}"
        ) from error


def compressed_size(engine: Engine, name: str) -> int:
    """Bytes of the image as a registry would hold it, near enough: gzip over what `save` writes."""
    import gzip
    import subprocess

    process = subprocess.Popen([engine.program, "save", name], stdout=subprocess.PIPE)
    assert process.stdout is not None
    counted = _Counted()
    with gzip.GzipFile(fileobj=counted, mode="wb", compresslevel=6) as packed:
        shutil.copyfileobj(process.stdout, packed)
    process.wait()
    return counted.size


class _Counted:
    """A file that only counts."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""
