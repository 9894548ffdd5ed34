"""How JupyterLab is started so that a lesson is the first thing a person sees: no dialog and no choice.

The settings are plain Jupyter configuration in `labs/jupyter/` (news, update checks and notifications off,
windowing off so that every chart stays drawn). The environment's own `python3` kernel comes first, and what
JupyterLab writes (its layout, its connection files) stays in `build/jupyter`, beside the course: an older
layout of the same user is not restored over the lesson, and browsers that may not read hidden directories
(those from snap packages) can read the file by which Jupyter logs them in.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def course() -> Path:
    """The directory of the lessons: beside this package, else below the working directory.

    Raises FileNotFoundError, in one sentence, where there is none.
    """
    for root in (Path(__file__).resolve().parents[1], Path.cwd()):
        if (root / "labs" / "jupyter").is_dir():
            return root / "labs"
    raise FileNotFoundError(
        f"no labs/ beside {Path(__file__).resolve().parent} or in {Path.cwd()}: "
        "the lessons come with the repository, not with the package; start from a clone of it"
    )


def lesson(name: str) -> Path:
    """The notebook that `name` means: `02`, `02-canary`, `02-canary.ipynb`, or the path of one elsewhere.

    A notebook elsewhere brings its own `jupyter/` beside it if it wants settings. Raises FileNotFoundError.
    """
    if Path(name).is_file() and Path(name).suffix == ".ipynb":
        return Path(name).resolve()
    labs = course()
    wanted = name.removesuffix(".ipynb")
    for notebook in sorted(labs.glob("*.ipynb")):
        if notebook.stem == wanted or notebook.stem.startswith(f"{wanted}-"):
            return notebook
    known = ", ".join(notebook.name for notebook in sorted(labs.glob("*.ipynb")))
    raise FileNotFoundError(f'no lesson "{name}"; there are {known}')


def command(
    notebook: str = "02-canary.ipynb", port: int = 8888, browser: bool = True, token: str | None = None
) -> tuple[list[str], dict[str, str]]:
    """The arguments and the whole environment of a JupyterLab that opens a lesson. Raises FileNotFoundError.

    `port` is the first one tried. Without `token` Jupyter makes one and logs the browser in with it; a given
    one travels in the environment, where other users of the machine cannot read it.
    """
    path = lesson(notebook)
    root = path.parent.parent
    written = root / "build" / "jupyter"
    argv = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={root}",
        f"--ServerApp.port={port}",
        f"--LabApp.default_url=/lab/tree/{path.relative_to(root).as_posix()}",
        f"--LabApp.workspaces_dir={written / 'workspaces'}",
    ]
    if not browser:
        argv.append("--no-browser")
    if os.geteuid() == 0:  # a container, as a rule; whoever is root there meant it
        argv.append("--allow-root")
    env = {
        **os.environ,
        "JUPYTER_CONFIG_PATH": _first(path.parent / "jupyter", os.environ.get("JUPYTER_CONFIG_PATH")),
        "JUPYTER_RUNTIME_DIR": str(written / "runtime"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": _first(root, os.environ.get("PYTHONPATH")),
    }
    if token is not None:
        env["JUPYTER_TOKEN"] = token
    return argv, env


def _first(path: Path, others: str | None) -> str:
    return os.pathsep.join([str(path), *([others] if others else [])])
