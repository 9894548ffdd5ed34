"""`python -m mesh.proxy.wait until-ready | seconds N`: the sidecar container's hooks where Kubernetes has no sidecars.

`postStart` waits until the proxy serves, so that the kubelet starts the app's containers only then; `preStop` just
waits, so that the proxy outlives the app's last requests.
"""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Callable, Sequence

LONGEST = 60.0
"""Seconds to wait for a proxy to become ready: then the container counts as failed, and is started again."""
PAUSE = 0.1


def main(arguments: Sequence[str]) -> int:
    match list(arguments):
        case ["until-ready"]:
            port = int(os.environ.get("ISTIO_HEALTH_PORT", "15021"))
            return 0 if until(lambda: ready(port), LONGEST) else 1
        case ["seconds", number] if number.isdigit():
            time.sleep(int(number))
            return 0
    print("usage: python -m mesh.proxy.wait until-ready | seconds N", file=sys.stderr)
    return 2


def ready(port: int) -> bool:
    """Whether the proxy of this pod says that it serves."""
    connection = http.client.HTTPConnection(os.environ.get("LAB_POD_ADDRESS", "127.0.0.1"), port, timeout=1.0)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask until it holds; False when it has not within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
