"""Which workloads demand mutual TLS: PeerAuthentication, resolved for one workload.

Order of precedence: policies that select the workload, then those of its namespace, then those of the root
namespace (the mesh), then PERMISSIVE. UNSET takes the level above. On one level the oldest policy decides.
Source: istio.io, Concepts, Security, "Policy precedence".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from mesh.api.objects import ConfigObject
from mesh.api.peer_authentication import PeerAuthenticationSpec
from mesh.control.world import Labels, World

Mode = Literal["DISABLE", "PERMISSIVE", "STRICT"]
Policy = ConfigObject[PeerAuthenticationSpec]


@dataclass(frozen=True, slots=True)
class MutualTls:
    """What one workload demands: `mode`, and other modes on some ports."""

    mode: Mode = "PERMISSIVE"
    ports: dict[int, Mode] = field(default_factory=dict)

    def on(self, port: int) -> Mode:
        return self.ports.get(port, self.mode)


def mutual_tls(world: World, namespace: str, labels: Labels) -> MutualTls:
    """What the workload with these labels in this namespace demands of its clients."""
    policies = world.peer_authentications
    mesh_wide = _first(p for p in policies if p.namespace == world.mesh.root_namespace and _is_general(p))
    own = [policy for policy in policies if policy.namespace == namespace]
    namespace_wide = _first(policy for policy in own if _is_general(policy))
    selecting = _first(policy for policy in own if not _is_general(policy) and _selects(policy, labels))
    mode: Mode = "PERMISSIVE"
    for policy in (mesh_wide, namespace_wide, selecting):
        if policy is not None and policy.spec.mode != "UNSET":
            mode = policy.spec.mode
    ports: dict[int, Mode] = {}
    for port, setting in (selecting.spec.port_level_mtls if selecting else {}).items():
        ports[port] = mode if setting.mode == "UNSET" else setting.mode
    return MutualTls(mode, ports)


def anything_disabled(world: World) -> bool:
    """Does any policy turn mutual TLS off anywhere? Nearly never; then endpoints need no look at policies."""

    def build() -> bool:
        return any(
            "DISABLE" in (p.spec.mode, *(setting.mode for setting in p.spec.port_level_mtls.values()))
            for p in world.peer_authentications
        )

    return world.memo.get("mutual TLS off", (world.peer_authentications,), build)


def _is_general(policy: Policy) -> bool:
    return not (policy.spec.selector and policy.spec.selector.match_labels)


def _selects(policy: Policy, labels: Labels) -> bool:
    return policy.spec.selector is not None and policy.spec.selector.selects(labels)


def _first(policies: Iterable[Policy]) -> Policy | None:
    return next(iter(policies), None)
