"""`mesh lab`: JupyterLab, open on the course."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mesh.cli.output import CliError
from widgets.jupyter import command


def add_to(commands: Any) -> None:
    """Add the command to the grammar."""
    lab = commands.add_parser("lab", help="open JupyterLab on the course")
    lab.add_argument(
        "notebook", nargs="?", default="02-canary.ipynb", help="which lab (default: %(default)s)"
    )
    lab.add_argument("--port", type=int, default=8888, help="first port to try (default: %(default)s)")
    lab.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    lab.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Become JupyterLab, so that Ctrl-C and the terminal's end reach it and nothing else stands between."""
    try:
        argv, env = command(args.notebook, args.port, browser=not args.no_browser)
    except FileNotFoundError as error:
        raise CliError(str(error)) from error
    os.execve(argv[0], argv, env)
