"""PeerAuthentication: whether a workload insists on mutual TLS. Source: istio.io, Reference,
PeerAuthentication.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from mesh.api.model import Model, WorkloadSelector
from mesh.api.problems import Problem

Mode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class MutualTLS(Model):
    """UNSET takes the setting of the level above: workload, then namespace, then mesh, then PERMISSIVE."""

    mode: Mode = "UNSET"


def _port_key(value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise ValueError(f"must be a port from 1 to 65535, not {value!r}")
    return int(text)


#: Keys of a mapping are text in JSON; here they are numbers.
PortKey = Annotated[int, BeforeValidator(_port_key), PlainSerializer(str)]


class PeerAuthenticationSpec(Model):
    selector: WorkloadSelector | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: dict[PortKey, MutualTLS] = Field(default_factory=dict)

    def check(self) -> Iterator[Problem]:
        if self.port_level_mtls and not (self.selector and self.selector.match_labels):
            yield Problem(
                "portLevelMtls",
                "needs a selector: ports belong to workloads, not to a namespace",
            )
        if "port_level_mtls" in self.model_fields_set and not self.port_level_mtls:
            yield Problem("portLevelMtls", "must name at least one port if it is there")

    @property
    def mode(self) -> Mode:
        return self.mtls.mode if self.mtls else "UNSET"
