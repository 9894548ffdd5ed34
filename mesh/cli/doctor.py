"""`mesh doctor`: what this machine has for the lab, with plain fixes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from cluster.doctor import examine
from mesh.cli.output import print_json, print_table


def add_to(commands: Any, machine: argparse.ArgumentParser) -> None:
    """Add the command to the grammar."""
    doctor = commands.add_parser("doctor", parents=[machine], help="check this machine before a start")
    doctor.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; exit status 1 when one of them keeps the lab from starting."""
    findings = examine()
    if args.json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(("CHECK", "STATE", "SEEN", "FIX"), ((f.check, f.state, f.seen, f.fix) for f in findings))
    return int(any(finding.state == "problem" for finding in findings))
