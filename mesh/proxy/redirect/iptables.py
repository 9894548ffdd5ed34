"""The plan as input of `iptables-restore --noflush`. Pure.

Chains, in the order a packet meets them:

    PREROUTING -> ISTIO_INBOUND -> ISTIO_IN_REDIRECT (15006)
    OUTPUT     -> ISTIO_OUTPUT  -> ISTIO_REDIRECT (15001), or ISTIO_IN_REDIRECT for what the pod asks of itself

A line `:CHAIN - [0:0]` makes the chain or empties it, so a second run ends with the same rules; the two jumps
are added only where they are not there yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mesh.proxy.redirect.plan import LOOPED_BACK, Plan

_CHAINS = ("ISTIO_INBOUND", "ISTIO_REDIRECT", "ISTIO_IN_REDIRECT", "ISTIO_OUTPUT")
_JUMPS = (
    "-A PREROUTING -p tcp -j ISTIO_INBOUND",
    "-A OUTPUT -p tcp -j ISTIO_OUTPUT",
)


def rules(plan: Plan, present: Collection[str] = ()) -> str:
    """The table `nat`. `present` are the rules that are there, as `iptables-save` writes them."""
    lines = [
        "*nat",
        *(f":{chain} - [0:0]" for chain in _CHAINS),
        *(jump for jump in _JUMPS if jump not in present),
        f"-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {plan.outbound_port}",
        f"-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {plan.inbound_port}",
        *_inbound(plan),
        *_outbound(plan),
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def _inbound(plan: Plan) -> Iterator[str]:
    for port in plan.passing_inbound_ports:
        yield f"-A ISTIO_INBOUND -p tcp -m tcp --dport {port} -j RETURN"
    if plan.include_inbound_ports is None:
        yield "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT"
        return
    for port in plan.include_inbound_ports:
        yield f"-A ISTIO_INBOUND -p tcp -m tcp --dport {port} -j ISTIO_IN_REDIRECT"


def _outbound(plan: Plan) -> Iterator[str]:
    """First who passes: the proxy's way to its app, loopback, the proxy itself. Then by port and range."""
    add = "-A ISTIO_OUTPUT"
    yield f"{add} -s {LOOPED_BACK}/32 -o lo -j RETURN"
    for owner in (f"--uid-owner {plan.proxy_id}", f"--gid-owner {plan.proxy_id}"):
        yield f"{add} ! -d 127.0.0.1/32 -o lo -p tcp -m owner {owner} -j ISTIO_IN_REDIRECT"
        yield f"{add} -o lo -m owner ! {owner} -j RETURN"
        yield f"{add} -m owner {owner} -j RETURN"
    yield f"{add} -d 127.0.0.1/32 -j RETURN"
    for port in plan.exclude_outbound_ports:
        yield f"{add} -p tcp -m tcp --dport {port} -j RETURN"
    for port in plan.include_outbound_ports:
        yield f"{add} -p tcp -m tcp --dport {port} -j ISTIO_REDIRECT"
    for network in plan.exclude_outbound_ranges:
        yield f"{add} -d {network} -j RETURN"
    if plan.include_outbound_ranges is None:
        yield f"{add} -j ISTIO_REDIRECT"
        return
    for network in plan.include_outbound_ranges:
        yield f"{add} -d {network} -j ISTIO_REDIRECT"
