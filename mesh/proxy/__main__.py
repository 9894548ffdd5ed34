"""`python -m mesh.proxy`: the sidecar, or with NODE_TYPE=router the gateway, of this pod."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from mesh.proxy.app import run
from mesh.proxy.bootstrap import Bootstrap, BootstrapError


def main() -> int:
    parser = argparse.ArgumentParser(prog="mesh.proxy", description=__doc__)
    parser.add_argument("type", nargs="?", choices=("sidecar", "router"), default=None)
    parser.add_argument("--log-level", default="info", help="debug, info, warning or error")
    arguments = parser.parse_args()
    level = logging.getLevelNamesMapping().get(arguments.log_level.upper())
    if level is None:
        parser.error(f"--log-level {arguments.log_level}: one of debug, info, warning, error")
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    environ = dict(os.environ)
    if arguments.type is not None:
        environ["NODE_TYPE"] = arguments.type
    try:
        run(Bootstrap(environ))
    except BootstrapError as error:
        print(f"mesh.proxy: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
