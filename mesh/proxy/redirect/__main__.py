"""`python -m mesh.proxy.redirect`: put the rules in force, with the first program that can.

Options as those of `istio-iptables`, by their long names. `--dry-run` prints the rules.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from mesh.proxy.redirect import iptables, nftables
from mesh.proxy.redirect.plan import PROXY_ID, Plan, PlanError, ports, ports_or_all, ranges, ranges_or_all

IPTABLES = ("iptables", "iptables-nft", "iptables-legacy")
"""In this order: the system's choice, then each kernel interface by name."""
SECONDS = 30.0
SANDBOX = "CONTAINER_SANDBOX_MOUNT_POINT"
"""Set where containers share the machine's network: the embedded cluster."""


class ApplyError(Exception):
    """No program could put the rules in force: what each said, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        plan = plan_of(options)
        if options.dry_run:
            print(nftables.rules(plan) if options.dry_run == "nft" else iptables.rules(plan), end="")
            return 0
        if os.environ.get(SANDBOX):
            raise ApplyError(
                "this pod has no network of its own (embedded cluster), so the rules would catch the whole machine's "
                "traffic; leave the annotation sidecar.istio.io/interceptionMode away, or use --backend kind"
            )
        print(f"mesh.proxy.redirect: traffic is caught by {apply(plan)}")
    except (PlanError, ApplyError) as error:
        print(f"mesh.proxy.redirect: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mesh.proxy.redirect", description=__doc__)
    add = parser.add_argument
    add("--envoy-port", type=int, default=15001, help="where outbound connections go")
    add("--inbound-capture-port", type=int, default=15006, help="where inbound connections go")
    add("--proxy-uid", type=int, default=PROXY_ID, help="user and group of the proxy, not caught")
    add("--istio-service-cidr", default="*", help="destinations to catch: ranges, or * for all")
    add("--istio-service-exclude-cidr", default="", help="destinations to let pass: ranges")
    add("--istio-outbound-ports", default="", help="destination ports to catch in any range")
    add("--istio-local-outbound-ports-exclude", default="", help="destination ports to let pass")
    add("--istio-inbound-ports", default="*", help="ports of the pod to catch, or * for all")
    add("--istio-local-exclude-ports", default="", help="ports of the pod to let pass")
    add("--dry-run", nargs="?", const="iptables", choices=("iptables", "nft"), help="print the rules only")
    return parser


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the options ask for. Raises PlanError."""
    return Plan(
        outbound_port=options.envoy_port,
        inbound_port=options.inbound_capture_port,
        proxy_id=options.proxy_uid,
        include_outbound_ranges=ranges_or_all(options.istio_service_cidr, "--istio-service-cidr"),
        exclude_outbound_ranges=ranges(options.istio_service_exclude_cidr, "--istio-service-exclude-cidr"),
        include_outbound_ports=ports(options.istio_outbound_ports, "--istio-outbound-ports"),
        exclude_outbound_ports=ports(
            options.istio_local_outbound_ports_exclude, "--istio-local-outbound-ports-exclude"
        ),
        include_inbound_ports=ports_or_all(options.istio_inbound_ports, "--istio-inbound-ports"),
        exclude_inbound_ports=ports(options.istio_local_exclude_ports, "--istio-local-exclude-ports"),
    )


def apply(plan: Plan) -> str:
    """Put the plan in force; the name of the program that did. Each is all or nothing. Raises ApplyError."""
    tried: list[str] = []
    ways: list[tuple[str, Callable[[], str]]] = [
        *((name, lambda name=name: _iptables(name, plan)) for name in IPTABLES),
        ("nft", lambda: _run(["nft", "-f", "-"], nftables.rules(plan))),
    ]
    for name, way in ways:
        if shutil.which(f"{name}-restore" if name in IPTABLES else name) is None:
            continue
        problem = way()
        if not problem:
            return name
        tried.append(f"{name}: {problem}")
    if not tried:
        raise ApplyError("neither iptables nor nft is in this image; build it from a base image that has one")
    raise ApplyError(
        f"the rules were refused ({'; '.join(tried)}). The container needs the capabilities NET_ADMIN and NET_RAW; "
        "where the cluster forbids them, install the mesh with --interception none"
    )


def _iptables(name: str, plan: Plan) -> str:
    try:
        saved = subprocess.run(
            [f"{name}-save", "-t", "nat"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    present = {line.strip() for line in saved.stdout.splitlines()}
    return _run([f"{name}-restore", "--noflush"], iptables.rules(plan, present))


def _run(command: list[str], text: str) -> str:
    """What went wrong; empty when nothing did."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return " ".join(done.stderr.split()) or f"exit status {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
