"""What the lab image has to hold besides Python: our package and the distributions it needs, as one directory.

Collected on the host, so that the image's build needs no package index. Where the host runs the same Python on the
same kind of machine as the image, they are taken as they are installed here; else pip fetches wheels for the image.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from packaging.markers import default_environment
from packaging.requirements import Requirement

from cluster.base import ClusterError
from cluster.engine import architecture

PROJECT = "service-mesh-lab"
NOT_IN_PODS = frozenset({"jupyterlab", "ipywidgets", "plotly", "anywidget", "pytest-kind", "psutil"})
"""What only the notebook and the command line use."""
PIP_SECONDS = 900.0
_LEFT_OUT = ("__pycache__", ".pyc", ".pyi", ".pyx", ".pxd")


@dataclass(frozen=True)
class Platform:
    """What an image runs: Python's version (`3.11`), machine (`amd64`) and C library (`glibc`, `musl`)."""

    python: str
    machine: str
    libc: str

    @property
    def tags(self) -> list[str]:
        """Platform tags of wheels that run there (PEP 600, PEP 656), newest first."""
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(self.machine, self.machine)
        if self.libc == "musl":
            return [f"musllinux_1_2_{machine}", f"musllinux_1_1_{machine}"]
        return [*(f"manylinux_2_{n}_{machine}" for n in (34, 31, 28, 27, 17)), f"manylinux2014_{machine}"]


def host() -> Platform:
    """What this process runs on; `libc` is empty where it is not Linux."""
    libc = "" if sys.platform != "linux" else ("glibc" if platform.libc_ver()[0] == "glibc" else "musl")
    return Platform(f"{sys.version_info[0]}.{sys.version_info[1]}", architecture(platform.machine()), libc)


def collect(into: Path, image: Platform) -> None:
    """Fill the directory. Raises ClusterError that names the distribution which cannot be had."""
    into.mkdir(parents=True, exist_ok=True)
    if image == host():
        for found in installed():
            _copy(found, into)
    else:
        _fetch(into, image)
    _copy_package("mesh", into)


def installed() -> list[Distribution]:
    """The distributions that pods need, as they are installed here, by name. Raises ClusterError."""
    found: dict[str, Distribution] = {}
    wanted = [r for r in _requirements(PROJECT, frozenset()) if _plain(r.name) not in NOT_IN_PODS]
    while wanted:
        requirement = wanted.pop()
        name = _plain(requirement.name)
        if name in found:
            continue
        found[name] = _distribution(name)
        wanted += _requirements(name, frozenset(requirement.extras))
    return [found[name] for name in sorted(found)]


def _requirements(name: str, extras: frozenset[str]) -> list[Requirement]:
    """What a distribution asks for on this machine, with these extras."""
    environment = {key: str(value) for key, value in default_environment().items()}
    asked = [Requirement(text) for text in _requires(name)]
    return [
        each
        for each in asked
        if each.marker is None
        or any(each.marker.evaluate({**environment, "extra": extra}) for extra in (extras or {""}))
    ]


def _requires(name: str) -> list[str]:
    """By its metadata; our own project, run from a source tree that is not installed, by pyproject.toml."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    if name == PROJECT and project.exists():
        return list(tomllib.loads(project.read_text())["project"]["dependencies"])
    return _distribution(name).requires or []


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise ClusterError(
            f"the image needs {name}, which is not installed here: run `make lab` again"
        ) from error


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _copy(found: Distribution, into: Path) -> None:
    """Its files, as its RECORD lists them; no programs, tests, or what only type checkers read."""
    files = found.files
    if files is None:
        raise ClusterError(f"the installed {found.name} does not list its files: install it with pip or uv")
    for file in files:
        if file.parts[0] in ("..", "/") or _useless(PurePosixPath(file)):
            continue
        target = into / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.locate_file(file), target)  # type: ignore[arg-type]


def _useless(path: PurePosixPath) -> bool:
    return path.suffix in _LEFT_OUT or any(part in ("__pycache__", "tests", "test") for part in path.parts)


def _pure(found: Distribution) -> bool:
    """Whether it is the same on every platform: its wheel's own word (PEP 427)."""
    wheel = (found.read_text("WHEEL") or "").splitlines()
    return any(line.startswith("Tag:") and line.endswith("-none-any") for line in wheel)


def _fetch(into: Path, image: Platform) -> None:
    """What is the same everywhere as it is here; of the rest the same versions, as wheels for the image's platform.

    Raises ClusterError with the installer's last words.
    """
    wanted = []
    for found in installed():
        if _pure(found):
            _copy(found, into)
        else:
            wanted.append(f"{found.name}=={found.version}")
    fetched = into.with_name(f"{into.name}.fetched")
    command = [*_installer(image), "--quiet", "--no-deps", "--target", str(fetched), "--only-binary", ":all:"]
    command += ["--python-version", image.python, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
    if done.returncode:
        raise ClusterError(
            f"the image's packages for Python {image.python} on {image.machine} cannot be fetched: "
            f"{(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        )
    for path in _files(fetched):
        relative = path.relative_to(fetched)
        if relative.parts[0] != "bin" and not _useless(PurePosixPath(relative)):
            (into / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, into / relative)
    shutil.rmtree(fetched)


def _installer(image: Platform) -> list[str]:
    """pip of this environment, else uv, which makes environments without pip. Raises ClusterError."""
    if importlib.util.find_spec("pip") is not None:
        tags = [part for tag in image.tags for part in ("--platform", tag)]
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", *tags]
    if shutil.which("uv"):
        libc = "musl" if image.libc == "musl" else "gnu"
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(image.machine, image.machine)
        return ["uv", "pip", "install", "--python-platform", f"{machine}-unknown-linux-{libc}"]
    raise ClusterError(
        f"the image has Python {image.python} on {image.machine} and this is another, so its packages have to be "
        "fetched: install pip or uv here"
    )


def _copy_package(name: str, into: Path) -> None:
    """One of our own packages, from wherever it is imported (an installation, or a source tree)."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent
    for path in _files(source):
        target = into / name / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path
