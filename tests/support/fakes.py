"""A docker and a kind on PATH that do as they are told: what they were asked is noted, what they answer is set."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PROGRAM = """#!{python}
import json, pathlib, sys
home = pathlib.Path({home!r})
with (home / "asked").open("a") as asked:
    print(json.dumps([{name!r}, *sys.argv[1:]]), file=asked)
answers = json.loads((home / "answers.json").read_text())
line = " ".join([{name!r}, *sys.argv[1:]])
for beginning, (status, out, err, writes) in sorted(answers.items(), key=lambda item: -len(item[0])):
    if line.startswith(beginning):
        sys.stdout.write(out)
        sys.stderr.write(err)
        for option, text in writes.items():
            given = [a.partition("=")[2] for a in sys.argv if a.startswith(option + "=")]
            if given:
                pathlib.Path(given[0]).write_text(text)
        sys.exit(status)
sys.stderr.write("fake " + line + ": not told what to answer")
sys.exit(99)
"""

INFO = {"ServerVersion": "28", "MemTotal": 16 << 30, "Architecture": "x86_64", "DockerRootDir": "/nowhere"}


class Fakes:
    """The directory to put first on PATH."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.answers: dict[str, Any] = {}
        for name in ("docker", "kind"):
            program = home / name
            program.write_text(PROGRAM.format(python=sys.executable, home=str(home), name=name))
            program.chmod(0o755)
        self.says("docker info", json.dumps(INFO))
        self.says("docker image inspect", "sha256:1\n")
        self.says("kind get clusters", "")

    def says(self, command: str, out: str = "", err: str = "", status: int = 0, **writes: str) -> None:
        """What a command that begins so answers; `writes` fills files that options name (`kubeconfig="..."`)."""
        self.answers[command] = (status, out, err, {f"--{option}": text for option, text in writes.items()})
        (self.home / "answers.json").write_text(json.dumps(self.answers))

    def fails(self, command: str, err: str) -> None:
        self.says(command, "", err, 1)

    @property
    def asked(self) -> list[str]:
        """The commands so far."""
        file = self.home / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        return [" ".join(json.loads(line)) for line in lines]
