"""Certificates for the mutual TLS case: a root of this run, and one workload for all parts."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mesh.ca.identity import Identity
from mesh.ca.issue import issue
from mesh.ca.root import new_root
from mesh.proxy.identity import new_key_and_request


def write_certificates(directory: Path) -> None:
    """Write `chain.pem`, `key.pem` and `root.pem` into a directory that only this run knows."""
    now = datetime.now(UTC)
    key, csr = new_key_and_request()
    identity = Identity("cluster.local", "default", "bench")
    leaf, root = issue(new_root("cluster.local", now), csr, identity, timedelta(days=1), now)
    (directory / "chain.pem").write_text(leaf)
    (directory / "key.pem").write_bytes(key)
    (directory / "root.pem").write_text(root)


def context(directory: Path, server: bool) -> ssl.SSLContext:
    """Mutual TLS for client or upstream."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = ssl.CERT_REQUIRED
    found.load_verify_locations(directory / "root.pem")
    found.load_cert_chain(directory / "chain.pem", directory / "key.pem")
    found.set_alpn_protocols(["http/1.1"])
    return found
