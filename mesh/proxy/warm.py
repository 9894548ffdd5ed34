"""Does once what every proxy does at its start, for those that are forked from this process later.

Importing this module makes a throw-away key, certificate and TLS contexts: OpenSSL then loads its tables here, and
the forks share them instead of each loading its own (3 MB of each sidecar, measured). No thread, no event loop, no
channel is left. Imported by the embedded cluster's fork server (`mesh.manifests.PRELOAD`), by nobody else.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import mesh.proxy.app  # noqa: F401  everything a proxy imports
from mesh.ca.identity import Identity
from mesh.ca.issue import issue
from mesh.ca.root import new_root
from mesh.proxy.identity import CERTIFICATE, ROOT, Certificate, Secrets, new_key_and_request
from mesh.proxy.tls import TlsSpec


def _rehearse() -> None:
    """A certificate's way from key to TLS context."""
    now = datetime.now(UTC)
    identity = Identity("warm.local", "none", "none")
    key, csr = new_key_and_request()
    secrets = Secrets()
    secrets.set_certificate(
        Certificate(issue(new_root("warm.local", now), csr, identity, timedelta(hours=1), now), key)
    )
    spec = TlsSpec(CERTIFICATE, ROOT, ["http/1.1"])
    secrets.server_context(spec, True)
    secrets.client_context(spec)


_rehearse()
