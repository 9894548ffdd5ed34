"""The plan as input of `nft -f -`: a table of our own that replaces itself. Pure.

The same rules in the same order as `iptables`; the table is made, removed and made anew in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.proxy.redirect.plan import LOOPED_BACK, Plan

TABLE = "istio_nat"


def rules(plan: Plan) -> str:
    """The whole script."""
    inbound = "\n".join(f"    {rule}" for rule in _inbound(plan))
    outbound = "\n".join(f"    {rule}" for rule in _outbound(plan))
    return f"""table ip {TABLE} {{}}
delete table ip {TABLE}
table ip {TABLE} {{
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
{inbound}
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
{outbound}
  }}
}}
"""


def _inbound(plan: Plan) -> Iterator[str]:
    yield f"tcp dport {_set(plan.passing_inbound_ports)} return"
    if plan.include_inbound_ports is None:
        yield f"meta l4proto tcp redirect to :{plan.inbound_port}"
    elif plan.include_inbound_ports:
        yield f"tcp dport {_set(plan.include_inbound_ports)} redirect to :{plan.inbound_port}"


def _outbound(plan: Plan) -> Iterator[str]:
    yield f'oifname "lo" ip saddr {LOOPED_BACK} return'
    for owner in ("skuid", "skgid"):
        own = f"meta {owner} {plan.proxy_id}"
        yield f'oifname "lo" ip daddr != 127.0.0.1 meta l4proto tcp {own} redirect to :{plan.inbound_port}'
        yield f'oifname "lo" meta {owner} != {plan.proxy_id} return'
        yield f"{own} return"
    yield "ip daddr 127.0.0.1 return"
    if plan.exclude_outbound_ports:
        yield f"tcp dport {_set(plan.exclude_outbound_ports)} return"
    catch = f"meta l4proto tcp redirect to :{plan.outbound_port}"
    if plan.include_outbound_ports:
        yield f"tcp dport {_set(plan.include_outbound_ports)} redirect to :{plan.outbound_port}"
    for network in plan.exclude_outbound_ranges:
        yield f"ip daddr {network} return"
    if plan.include_outbound_ranges is None:
        yield catch
        return
    for network in plan.include_outbound_ranges:
        yield f"ip daddr {network} {catch}"


def _set(ports: Iterable[int]) -> str:
    return "{ " + ", ".join(str(port) for port in sorted(set(ports))) + " }"
