"""What is remembered of clusters that live on without us: one directory each below the state home.

A record is written before the first thing is made and removed after the last is gone, so that whatever a crash
leaves can be found (`mesh sweep`). A cluster with an owner goes when that process is gone; without, it stays.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from cluster.base import ClusterError
from cluster.embedded.homes import default_state_home

State = Literal["making", "ready"]


@dataclass(frozen=True)
class Owner:
    """A process; `began` tells it from a later one with the same number."""

    pid: int
    began: float

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Raises ClusterError where there is no such process."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess as error:
            raise ClusterError(f"process {pid} does not run, so it can own no cluster") from error

    @property
    def alive(self) -> bool:
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.began) < 1.0)
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Record:
    """One cluster of ours."""

    backend: str
    name: str
    state: State = "making"
    owner: Owner | None = None
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def directory(self) -> Path:
        return home(self.backend) / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def abandoned(self) -> bool:
        """Nobody will end it: it is half-made or its owner is gone."""
        if self.owner is not None:
            return not self.owner.alive
        return self.state == "making"

    def fact(self, key: str) -> str:
        return dict(self.facts).get(key, "")

    def with_facts(self, **facts: str) -> Record:
        return replace(self, facts=tuple({**dict(self.facts), **facts}.items()))

    def write(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = self.directory / f"record.{os.getpid()}"
        scratch.write_text(json.dumps(asdict(self)))
        scratch.replace(self.directory / "record.json")

    def forget(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


def home(backend: str) -> Path:
    """The directory of a backend's clusters."""
    return default_state_home() / backend


def read(backend: str, name: str) -> Record | None:
    """The record of that name; None where there is none that can be read."""
    try:
        said: dict[str, Any] = json.loads((home(backend) / name / "record.json").read_text())
        owner = Owner(**said["owner"]) if said["owner"] else None
        facts = tuple((str(key), str(value)) for key, value in said["facts"])
        return Record(said["backend"], said["name"], said["state"], owner, facts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def every(backend: str) -> Iterator[Record]:
    """All records of a backend, by name."""
    directory = home(backend)
    for entry in sorted(directory.iterdir()) if directory.is_dir() else ():
        if (found := read(backend, entry.name)) is not None:
            yield found
