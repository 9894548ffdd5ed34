"""`python -m mesh.telemetry`: the mesh's telemetry; access logs on port 15011, queries on 15013."""

import argparse
import asyncio
import logging
import os
import sys

from mesh.control.kube import KubeError
from mesh.ports import really
from mesh.telemetry.app import run


def main(argv: list[str] | None = None) -> int:
    """Run telemetry until told to stop. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mesh.telemetry", description="The mesh's telemetry.")
    parser.add_argument("--log-port", type=int, default=15011, help="gRPC access log service")
    parser.add_argument("--query-port", type=int, default=15013, help="HTTP query API")
    chosen = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    address = os.environ.get("LAB_BIND_ADDRESS") or "0.0.0.0"
    try:
        asyncio.run(run(address, really(chosen.log_port, os.environ), chosen.query_port))
    except (OSError, KubeError) as error:
        print(f"telemetry: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
