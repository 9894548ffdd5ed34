"""`python -m mesh.shop productpage|details|reviews|ratings [--version v1] [--port 9080]`: one service of
the shop.
"""

import argparse
import os
import sys

from mesh.shop.productpage import productpage
from mesh.shop.serve import run
from mesh.shop.services import details, ratings, reviews

SERVICES = {"productpage": productpage, "details": details, "reviews": reviews, "ratings": ratings}


def main(argv: list[str] | None = None) -> int:
    """Run one service until it is told to stop. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mesh.shop", description="One service of the demo shop.")
    parser.add_argument("service", choices=sorted(SERVICES))
    parser.add_argument(
        "--version", default=os.environ.get("SERVICE_VERSION", "v1"), help="as in label `version`"
    )
    parser.add_argument("--port", type=int, default=9080)
    chosen = parser.parse_args(argv)
    try:
        run(SERVICES[chosen.service](chosen.version), chosen.port, f"{chosen.service} {chosen.version}")
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        print(f"shop: {chosen.service} cannot listen on port {chosen.port}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
