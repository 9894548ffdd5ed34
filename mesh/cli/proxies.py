"""`mesh proxy-status` and `mesh proxy-config`: what each proxy was given and what it took, as istioctl shows it."""

from __future__ import annotations

import argparse
from typing import Any

from cluster import up as lifecycle
from cluster.api import Answer, Api
from mesh.cli.output import CliError, print_json, print_table

KINDS = ("listeners", "routes", "clusters", "endpoints")
CONTROL_PORT = 15014


def add_to(commands: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the two commands to the grammar."""
    status = commands.add_parser(
        "proxy-status", parents=parents, help="which proxies are in sync, and with what"
    )
    status.set_defaults(run=run_status)
    config = commands.add_parser("proxy-config", parents=parents, help="the xDS configuration of one proxy")
    config.add_argument("what", choices=KINDS)
    config.add_argument("pod", help="POD or POD.NAMESPACE; the start of its name will do")
    config.set_defaults(run=run_config)


def run_status(args: argparse.Namespace) -> None:
    """One row a proxy: SYNCED when it has acknowledged the newest it was sent, as `istioctl proxy-status`."""
    proxies = sync_status(lifecycle.attach(args.name).api)
    if args.json:
        print_json(proxies)
        return
    types = ("CDS", "EDS", "LDS", "RDS")
    rows = [
        [proxy["proxy"], *(proxy["types"].get(t, {}).get("state", "NOT SENT") for t in types)]
        for proxy in proxies
    ]
    print_table(("NAME", *types), rows)
    for proxy in proxies:
        for name, state in proxy["types"].items():
            if state.get("error"):
                print(f"{proxy['proxy']} refused {name}: {state['error']}")


def sync_status(api: Api) -> list[dict[str, Any]]:
    """The control plane's own account of its proxies. Raises CliError."""
    proxies: list[dict[str, Any]] = _ask(api, "/debug/syncz")["proxies"]
    return proxies


def run_config(args: argparse.Namespace) -> None:
    """The resources of one type, as the control plane last sent them."""
    api = lifecycle.attach(args.name).api
    proxy = _proxy_named(sync_status(api), args.pod)
    dump = _ask(api, "/debug/config_dump", {"proxy": proxy})
    resources = dump[args.what]
    if args.json:
        print_json(resources)
        return
    header, row = ROWS[args.what]
    print_table(header, (line for resource in resources for line in row(resource)))


def _proxy_named(proxies: list[dict[str, Any]], word: str) -> str:
    names = [proxy["proxy"] for proxy in proxies]
    found = [n for n in names if n == word or n.split(".")[0] == word] or [
        n for n in names if n.startswith(word)
    ]
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise CliError(f'no connected proxy is named "{word}"; there are: {", ".join(names) or "none"}')
    raise CliError(f'"{word}" could be any of: {", ".join(found)}')


def _ask(api: Api, path: str, query: dict[str, str] | None = None) -> Any:
    answer: Answer = api.service(lifecycle.SYSTEM, "mesh-control", CONTROL_PORT, path, query=query)
    if answer.status != 200:
        raise CliError(f"the control plane answers {answer.status} to {path}: {answer.body[:300].decode()}")
    return answer.json()


def _listener(resource: dict[str, Any]) -> list[list[str]]:
    address = resource["address"]["socket_address"]
    chains = [c.get("name") or "chain" for c in resource.get("filter_chains", [])]
    return [[resource["name"], address["address"], str(address["port_value"]), ", ".join(chains)]]


def _route(resource: dict[str, Any]) -> list[list[str]]:
    rows = []
    for host in resource.get("virtual_hosts", []):
        for route in host.get("routes", []):
            match = " ".join(f"{k}={v}" for k, v in route["match"].items() if isinstance(v, str))
            rows.append([resource["name"], host["name"], match, _target(route)])
    return rows


def _target(route: dict[str, Any]) -> str:
    action = route.get("route", {})
    if "cluster" in action:
        return str(action["cluster"])
    if "weighted_clusters" in action:
        return ", ".join(f"{c['name']}={c['weight']}" for c in action["weighted_clusters"]["clusters"])
    return next((key for key in ("redirect", "direct_response") if key in route), "")


def _cluster(resource: dict[str, Any]) -> list[list[str]]:
    parts = resource["name"].split("|")
    direction, port, subset, host = parts if len(parts) == 4 else ("-", "-", "-", resource["name"])
    return [[host or "-", port or "-", subset or "-", direction, str(resource.get("type", "STATIC"))]]


def _endpoint(resource: dict[str, Any]) -> list[list[str]]:
    rows = []
    for locality in resource.get("endpoints", []):
        for entry in locality.get("lb_endpoints", []):
            address = entry["endpoint"]["address"]["socket_address"]
            health = entry.get("health_status", "HEALTHY")
            rows.append([f"{address['address']}:{address['port_value']}", health, resource["cluster_name"]])
    return rows


ROWS = {
    "listeners": (("NAME", "ADDRESS", "PORT", "FILTER CHAINS"), _listener),
    "routes": (("NAME", "VIRTUAL HOST", "MATCH", "TO"), _route),
    "clusters": (("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE"), _cluster),
    "endpoints": (("ENDPOINT", "STATUS", "CLUSTER"), _endpoint),
}
