"""Who is at the other end, as metrics and logs name it: workloads, not addresses.

The name comes from what the peer says of itself (Istio's `x-envoy-peer-metadata` header, only believed from
inside the mesh), from the endpoint's metadata (EDS), or from its certificate. Each different text is decoded
once.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

UNKNOWN_TEXT = "unknown"


class Workload:
    """What Istio's standard metrics say about one side of a request. Immutable; compared by identity."""

    __slots__ = ("app", "cluster", "name", "namespace", "revision", "service", "version")

    def __init__(
        self,
        name: str = UNKNOWN_TEXT,
        namespace: str = UNKNOWN_TEXT,
        app: str = UNKNOWN_TEXT,
        version: str = UNKNOWN_TEXT,
        cluster: str = UNKNOWN_TEXT,
        service: str = UNKNOWN_TEXT,
        revision: str = "latest",
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.app = app
        self.version = version
        self.cluster = cluster
        self.service = service
        """Istio's canonical service: label `service.istio.io/canonical-name`, else `app`, else the name."""
        self.revision = revision


UNKNOWN = Workload()


def from_metadata(metadata: Mapping[str, Any]) -> Workload:
    """A workload from node metadata (`NAME`, `WORKLOAD_NAME`, `NAMESPACE`, `LABELS`, `CLUSTER_ID`)."""
    labels = metadata.get("LABELS")
    labels = labels if isinstance(labels, Mapping) else {}
    name = str(metadata.get("WORKLOAD_NAME") or metadata.get("NAME") or UNKNOWN_TEXT)
    app = str(labels.get("app") or labels.get("app.kubernetes.io/name") or UNKNOWN_TEXT)
    version = str(labels.get("version") or labels.get("app.kubernetes.io/version") or UNKNOWN_TEXT)
    service = labels.get("service.istio.io/canonical-name") or (name if app == UNKNOWN_TEXT else app)
    revision = labels.get("service.istio.io/canonical-revision")
    return Workload(
        name,
        str(metadata.get("NAMESPACE") or UNKNOWN_TEXT),
        app,
        version,
        str(metadata.get("CLUSTER_ID") or UNKNOWN_TEXT),
        str(service),
        str(revision or ("latest" if version == UNKNOWN_TEXT else version)),
    )


def from_endpoint(text: str) -> Workload:
    """A workload from an endpoint's `istio.workload` metadata: `name;namespace;app;version;cluster`."""
    fields = (text.split(";") + [""] * 5)[:5]
    name, namespace, app, version, cluster = (field or UNKNOWN_TEXT for field in fields)
    revision = "latest" if version == UNKNOWN_TEXT else version
    return Workload(name, namespace, app, version, cluster, name if app == UNKNOWN_TEXT else app, revision)


EXCHANGED = ("NAME", "NAMESPACE", "WORKLOAD_NAME", "LABELS", "CLUSTER_ID", "OWNER", "MESH_ID")
"""Node metadata that goes to peers."""


def claim(node_id: str, metadata: Mapping[str, Any]) -> bytes:
    """The header lines by which this proxy tells its peers who it is: encoded once, at the start."""
    struct = Struct()
    struct.update({key: metadata[key] for key in EXCHANGED if key in metadata})
    encoded = base64.b64encode(struct.SerializeToString(deterministic=True))
    return b"x-envoy-peer-metadata-id: " + node_id.encode() + b"\r\nx-envoy-peer-metadata: " + encoded


class Claims:
    """Decodes what peers say of themselves. A different text costs once; the memory is bounded."""

    __slots__ = ("_known",)
    _LIMIT = 4096

    def __init__(self) -> None:
        self._known: dict[bytes, Workload] = {}

    def workload(self, encoded: bytes) -> Workload:
        """The workload behind a `x-envoy-peer-metadata` header; unknown if it cannot be read."""
        known = self._known.get(encoded)
        if known is None:
            if len(self._known) >= self._LIMIT:
                self._known.clear()
            known = self._known[encoded] = _decode(encoded)
        return known


def _decode(encoded: bytes) -> Workload:
    struct = Struct()
    try:
        struct.ParseFromString(base64.b64decode(encoded, validate=True))
    except (binascii.Error, DecodeError):
        return UNKNOWN
    plain: dict[str, Any] = {}
    for key, value in struct.fields.items():
        if value.WhichOneof("kind") == "struct_value":
            plain[key] = {k: v.string_value for k, v in value.struct_value.fields.items()}
        else:
            plain[key] = value.string_value
    return from_metadata(plain)
