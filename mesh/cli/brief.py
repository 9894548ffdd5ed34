"""`mesh brief`: an audience in words, the VirtualService it stands for in YAML. `mesh brief ... | mesh apply -f -`."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from mesh.api.brief import AREAS, Brief
from mesh.api.parse import validate
from mesh.cli.output import CliError, print_json


def add_to(commands: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the command to the grammar."""
    brief = commands.add_parser("brief", parents=parents, help="the rule for an audience, as YAML to apply")
    brief.add_argument("host", nargs="?", default="reviews", help="the service (default: %(default)s)")
    brief.add_argument("--feature", default="v3", help="subset with the feature (default: %(default)s)")
    brief.add_argument("--rest", default="v1", help="subset for everybody else (default: %(default)s)")
    areas = ", ".join(AREAS)
    brief.add_argument("--area", action="append", default=[], help=f"only there; may be repeated: {areas}")
    brief.add_argument(
        "--device", action="append", default=[], help="only these, such as iPhone; may be repeated"
    )
    brief.add_argument("--share", type=int, default=100, help="percent of the users (default: %(default)s)")
    brief.add_argument("--key", default="cookie:user", help="who is who: cookie:NAME or header:NAME")
    brief.add_argument("--salt", default="", help="makes this split independent of others, or the same")
    brief.add_argument("-n", "--namespace", default="default")
    brief.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the object. Raises CliError for what cannot be meant."""
    try:
        found = Brief(
            args.host,
            args.feature,
            args.rest,
            tuple(args.area),
            tuple(args.device),
            args.share,
            args.key,
            args.salt,
            namespace=args.namespace,
        ).virtual_service()
    except ValueError as error:
        raise CliError(str(error)) from None
    if problems := validate(found):
        raise CliError("; ".join(map(str, problems)))
    if args.json:
        print_json(found)
    else:
        print(yaml.safe_dump(found, sort_keys=False), end="")
