"""Where every pod shares one address (an embedded cluster on macOS), real ports stand for the ports pods declare.

Python's sockets are told by the lab itself; only servers that bind below Python, as gRPC's do, must ask here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping


def really(port: int, environ: Mapping[str, str]) -> int:
    """The port to bind for `port`: itself, unless LAB_PORTS (a JSON object) says otherwise."""
    return int(json.loads(environ.get("LAB_PORTS") or "{}").get(str(port), port))
