"""The demo's step `brief`: only in Southern Spain, only on iPhones, for half of the users; scored on a population.

Visitors come through one proxy in front of the gateway, which says in X-Forwarded-For who they are. The gateway
believes it only while the mesh's configuration says so (Istio's `gatewayTopology.numTrustedProxies`).
"""

from __future__ import annotations

from typing import Any

import yaml

from cluster import traffic
from cluster.api import Api
from cluster.up import Running, poll
from mesh.api.brief import Brief
from mesh.cli.output import CliError
from mesh.proxy.geography import installed
from mesh.shop.population import SOUTHERN_SPAIN, Person, people, reach
from widgets.stats import CERTAIN, share

SEED = 7
VISITS = 2
"""Visits a user, on average."""
MOST_USERS = 2000
"""As many as go into one plan for the visitors (1 MB)."""
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mesh", "namespace": "mesh-system"}}


def brief(percent: int) -> dict[str, Any]:
    """The brief with this share, as a VirtualService."""
    audience = Brief("reviews", "v3", "v1", ("Southern Spain",), ("iPhone",), percent)
    return audience.virtual_service()


def score(running: Running, users: int) -> tuple[str, int, bool]:
    """Send everybody, and score whom the feature reached: in words, the number of visits, and whether it is right.

    The rule is in force, the gateway believes one proxy. Raises CliError, ApiError.
    """
    everybody = people(min(users, MOST_USERS), SEED, installed())
    mix = [{"name": person.name, "weight": person.habit, "headers": person.headers} for person in everybody]
    stats = traffic.visit(running.api, len(everybody) * VISITS, mix=mix)
    seen = {name: own["by_version"] for name, own in stats["by_mix"].items()}
    found = reach(everybody, seen, "v3")
    half = share(found.reached, found.meant, CERTAIN)
    words = (
        f"{found.reached} of {found.meant} users meant were reached, {found.others} others; "
        f"precision {found.precision:.3f}, recall {found.recall:.3f}, stickiness {found.stickiness:.3f}"
    )
    exact = found.others == 0 and found.steady == found.returning > 0 and stats["ok"] == stats["sent"]
    return words, stats["sent"], exact and half.holds(0.5)


def wait_for_effect(running: Running) -> None:
    """Until somebody who is meant sees the feature; the rule has to send all of the audience there. Raises CliError."""
    probe = next(p for p in people(200, SEED, installed()) if _meant(p))

    def missing() -> str:
        seen = traffic.visit(running.api, 1, headers=probe.headers)
        return "" if "v3" in seen["by_version"] else "a user who is meant does not see the feature"

    if problem := poll(missing, 10.0):
        raise CliError(problem)


def _meant(person: Person) -> bool:
    return person.region in SOUTHERN_SPAIN and person.device == "iPhone" and "iPhone" in person.agent


def trust_proxies(api: Api, number: int) -> None:
    """How many proxies in front of the gateways are believed. Raises ApiError, CliError."""
    stored = api.get("v1", "ConfigMap", "mesh", "mesh-system")
    if stored is None:
        raise CliError("ConfigMap mesh-system/mesh is not there: this is no mesh of ours")
    config = yaml.safe_load(stored["data"]["mesh"])
    config.setdefault("defaultConfig", {})["gatewayTopology"] = {"numTrustedProxies": number}
    api.patch(CONFIG, {"data": {"mesh": yaml.safe_dump(config, sort_keys=False)}})
