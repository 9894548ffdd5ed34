"""The container engine of this machine, Docker or Podman: what it tells of itself, its errors in a sentence.

Used by `image` and `kind`. Everything goes through the command line, which both have in common.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.base import ClusterError

PROVIDER = "KIND_EXPERIMENTAL_PROVIDER"
"""kind's own variable: which engine it is to use."""
ASK_SECONDS = 20.0


class CommandError(ClusterError):
    """A program failed; `said` is what it wrote to stderr."""

    def __init__(self, sentence: str, said: str) -> None:
        super().__init__(sentence)
        self.said = said


def run(
    command: Sequence[str],
    what: str,
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program and return its stdout. Raises CommandError: `what` failed, and its last line on stderr."""
    full = {**os.environ, **(env or {})}
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=timeout, env=full, check=False
        )
    except FileNotFoundError as error:
        raise CommandError(f"{what}: {command[0]} is not there", str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{what}: no end after {timeout:.0f} s", "") from error
    if done.returncode:
        raise CommandError(
            f"{what}: {last_line(done.stderr) or f'exit status {done.returncode}'}", done.stderr
        )
    return done.stdout


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


@dataclass(frozen=True)
class Engine:
    """A container engine that answers."""

    program: str
    """`docker` or `podman`."""
    memory: int
    """Bytes its containers may use in all (of its virtual machine, where it has one)."""
    architecture: str
    """`amd64` or `arm64`: of the images it runs."""
    root: str
    """Where it keeps images; on another machine than this one if it runs in a virtual machine."""

    def run(
        self, *arguments: str, what: str, timeout: float = 600.0, env: Mapping[str, str] | None = None
    ) -> str:
        """One command of the engine. Raises CommandError."""
        return run([self.program, *arguments], what, timeout=timeout, env=env)

    def has_image(self, image: str) -> bool:
        return bool(self.image_id(image))

    def image_id(self, image: str) -> str:
        """The image's content id; empty where the engine does not have it."""
        try:
            found = self.run(
                "image", "inspect", "--format", "{{.Id}}", image, what="inspect", timeout=ASK_SECONDS
            )
        except CommandError:
            return ""
        return found.strip()

    def pull(self, image: str) -> None:
        """Raises ClusterError where it cannot be had."""
        try:
            self.run("pull", image, what=f"image {image}")
        except CommandError as error:
            raise ClusterError(
                f"image {image} is not on this machine and cannot be fetched ({last_line(error.said)}); "
                f"bring it with `{self.program} load`, or name another"
            ) from error


def find() -> Engine:
    """The engine that kind would use: the one its variable names, else Docker, else Podman. Raises ClusterError."""
    wanted = os.environ.get(PROVIDER, "")
    if wanted and wanted not in ("docker", "podman"):
        raise ClusterError(f"{PROVIDER} is {wanted!r}; the lab knows docker and podman")
    programs = [wanted] if wanted else ["docker", "podman"]
    installed = [program for program in programs if shutil.which(program)]
    if not installed:
        raise ClusterError(
            f"the kind backend needs {' or '.join(p.capitalize() for p in programs)}, and none is installed: install "
            "Docker (docs.docker.com/get-docker), or use --backend embedded, which needs neither"
        )
    problems = []
    for program in installed:
        try:
            return _ask(program)
        except ClusterError as error:
            problems.append(str(error))
    raise ClusterError(problems[0])


def _ask(program: str) -> Engine:
    try:
        info = json.loads(run([program, "info", "--format", "{{json .}}"], program, timeout=ASK_SECONDS))
    except CommandError as error:
        raise ClusterError(_unreachable(program, error)) from error
    except ValueError as error:
        raise ClusterError(f"{program} info gives no JSON; update {program.capitalize()}") from error
    if program == "docker" and not info.get("ServerVersion"):
        raise ClusterError(_unreachable(program, CommandError("", "\n".join(info.get("ServerErrors") or []))))
    return _engine(program, info)


def _engine(program: str, info: Mapping[str, Any]) -> Engine:
    """Docker tells flat, Podman under `host` and `store`."""
    host, store = info.get("host") or {}, info.get("store") or {}
    return Engine(
        program=program,
        memory=int(info.get("MemTotal") or host.get("memTotal") or 0),
        architecture=architecture(str(info.get("Architecture") or host.get("arch") or "")),
        root=str(info.get("DockerRootDir") or store.get("graphRoot") or ""),
    )


def architecture(word: str) -> str:
    """`x86_64` and `aarch64` as images call them."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(word, word)


def _unreachable(program: str, error: CommandError) -> str:
    name = program.capitalize()
    said = error.said.lower()
    if "permission denied" in said:
        return (
            f"you may not use {name}: add yourself to its group (`sudo usermod -aG {program} $USER`), log in again, "
            "or use --backend embedded"
        )
    if "cannot connect" in said or "is the docker daemon running" in said or "connection refused" in said:
        return (
            f"{name} is installed but does not run: start it (Docker Desktop, or `sudo systemctl start {program}`), "
            "or use --backend embedded"
        )
    return f"{name} does not answer: {last_line(error.said) or error}; or use --backend embedded"
