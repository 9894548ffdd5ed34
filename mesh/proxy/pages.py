"""What the administration pages say: plain functions from the running proxy to text or JSON.

Forms as Envoy's admin interface has them
(https://www.envoyproxy.io/docs/envoy/latest/operations/admin), so that tools that read those can read these.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage

from mesh.proxy.subscription import CLUSTER, ENDPOINT, LISTENER, ROUTE, Kind

if TYPE_CHECKING:
    from mesh.proxy.app import Proxy

HELP = """\
  /ready: 200 when configuration has come and all listeners serve, else 503
  /config_dump: the configuration in force, as Envoy's
  /clusters: endpoints and their state (?format=json)
  /listeners: addresses (?format=json)
  /certs: the workload's certificate
  /server_info: version, state, node
  /stats/prometheus: metrics
  /logging: log level (POST ?level=debug)
  /drain: ask clients to leave (POST)
  /quitquitquit: stop (POST)
"""


def not_ready(proxy: Proxy) -> str:
    """Why the proxy is not ready yet."""
    reasons = []
    for type_url in (CLUSTER, LISTENER):
        kind = proxy.subscription.kinds[type_url]
        if not kind.version:
            reasons.append(
                f"no {type_url.rpartition('.')[2]} configuration from the control plane: {kind.rejected}"
            )
    reasons += proxy.runtime.waiting_for
    if proxy.stopping.is_set():
        reasons.append("stopping")
    return "".join(f"{reason}\n" for reason in reasons) or "PRE_INITIALIZING\n"


# -- metrics ----------------------------------------------------------------------------------------------


def prometheus(proxy: Proxy) -> str:
    """Istio's standard metrics, then the proxy's own."""
    return "\n".join([*proxy.metrics.render(), *_own(proxy)]) + "\n"


def _own(proxy: Proxy) -> Iterator[str]:
    yield "# TYPE envoy_control_plane_connected_state gauge"
    yield f"envoy_control_plane_connected_state {int(proxy.subscription.connected)}"
    yield "# TYPE mesh_proxy_config_updates_total counter"
    yield f'mesh_proxy_config_updates_total{{result="accepted"}} {proxy.subscription.accepted}'
    yield f'mesh_proxy_config_updates_total{{result="refused"}} {proxy.subscription.refused}'
    yield "# TYPE mesh_proxy_access_log_entries_total counter"
    for stream in proxy.access_logs.streams:
        yield f'mesh_proxy_access_log_entries_total{{log="{stream.name}",result="sent"}} {stream.sent}'
        yield f'mesh_proxy_access_log_entries_total{{log="{stream.name}",result="dropped"}} {stream.dropped}'
    yield "# TYPE mesh_proxy_connections gauge"
    for name, listener in proxy.runtime.listeners.items():
        yield f'mesh_proxy_connections{{listener="{name}"}} {listener.connections}'
    certificate = proxy.secrets.certificate
    if certificate is not None:
        yield "# TYPE mesh_proxy_certificate_expiration_timestamp_seconds gauge"
        yield f"mesh_proxy_certificate_expiration_timestamp_seconds {certificate.not_after.timestamp():.0f}"


# -- configuration ----------------------------------------------------------------------------------------

_DUMPS = (
    (CLUSTER, "ClustersConfigDump", "dynamic_active_clusters", "cluster"),
    (LISTENER, "ListenersConfigDump", "dynamic_listeners", "listener"),
    (ROUTE, "RoutesConfigDump", "dynamic_route_configs", "route_config"),
    (ENDPOINT, "EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config"),
)


def config_dump(proxy: Proxy) -> str:
    """The resources in force as JSON, in the shape of Envoy's `ConfigDump`."""
    return json.dumps({"configs": [_dump(proxy, *each) for each in _DUMPS]}, indent=1)


def _dump(proxy: Proxy, type_url: str, name: str, field: str, inner: str) -> dict[str, Any]:
    kind = proxy.subscription.kinds[type_url]
    resources = []
    for resource_name, (value, _) in kind.specs.items():
        message = {inner: _as_json(type_url, value), "version_info": kind.version}
        if type_url == LISTENER:
            message = {"name": resource_name, "active_state": message}
        resources.append(message)
    dump: dict[str, Any] = {"@type": f"type.googleapis.com/envoy.admin.v3.{name}", field: resources}
    dump["version_info"] = kind.version
    if kind.rejected:
        dump["error_state"] = {"details": kind.rejected}
    return dump


def _as_json(type_url: str, value: bytes) -> dict[str, Any]:
    packed = AnyMessage(type_url=type_url, value=value)
    found: dict[str, Any] = json_format.MessageToDict(packed, preserving_proto_field_name=True)
    return found


def server_info(proxy: Proxy) -> str:
    """Who this proxy is and how far it has come."""
    state = "LIVE" if proxy.ready else "DRAINING" if proxy.stopping.is_set() else "INITIALIZING"
    return json.dumps(
        {
            "version": "mesh.proxy",
            "state": state,
            "process_id": os.getpid(),
            "node": {"id": proxy.bootstrap.node_id, "metadata": proxy.bootstrap.metadata},
            "xds": {type_url: _kind_state(kind) for type_url, kind in proxy.subscription.kinds.items()},
        },
        indent=1,
    )


def _kind_state(kind: Kind) -> dict[str, Any]:
    return {"version": kind.version, "resources": len(kind.specs), "rejected": kind.rejected}


def certs(proxy: Proxy) -> str:
    """The certificate in use (`/certs`)."""
    certificate = proxy.secrets.certificate
    if certificate is None:
        return json.dumps({"certificates": []})
    chain = {
        "serial_number": certificate.serial,
        "subject_alt_names": [{"uri": certificate.uri}],
        "valid_from": certificate.not_before.isoformat(),
        "expiration_time": certificate.not_after.isoformat(),
    }
    return json.dumps({"certificates": [{"cert_chain": [chain]}]}, indent=1)


# -- clusters and listeners -------------------------------------------------------------------------------


def clusters(proxy: Proxy) -> str:
    """Envoy's text form: `cluster::address::what::value`."""
    lines: list[str] = []
    for name, cluster in sorted(proxy.runtime.clusters.items()):
        lines.append(f"{name}::default_priority::max_connections::{cluster.breaker.max_connections}")
        lines.append(f"{name}::default_priority::max_requests::{cluster.breaker.max_requests}")
        for endpoint in cluster.endpoints.values():
            at = "{}::{}:{}".format(name, *endpoint.address)
            health = "healthy" if endpoint.healthy and not endpoint.ejected else "/failed_outlier_check"
            lines += [
                f"{at}::cx_active::{endpoint.pool.open}",
                f"{at}::cx_connect_fail::{endpoint.connect_failures}",
                f"{at}::cx_total::{endpoint.connected}",
                f"{at}::rq_active::{endpoint.active}",
                f"{at}::rq_total::{endpoint.requests}",
                f"{at}::health_flags::{health}",
                f"{at}::weight::{endpoint.weight}",
            ]
    return "".join(f"{line}\n" for line in lines)


def clusters_json(proxy: Proxy) -> str:
    """The same as JSON."""
    found = []
    for name, cluster in sorted(proxy.runtime.clusters.items()):
        hosts = [
            {
                "address": {"socket_address": {"address": e.address[0], "port_value": e.address[1]}},
                "health_status": {"eds_health_status": "HEALTHY" if e.healthy else "UNHEALTHY"},
                "weight": e.weight,
                "stats": [
                    {"name": "cx_active", "value": e.pool.open},
                    {"name": "rq_active", "value": e.active},
                    {"name": "rq_total", "value": e.requests},
                ],
            }
            for e in cluster.endpoints.values()
        ]
        found.append({"name": name, "host_statuses": hosts})
    return json.dumps({"cluster_statuses": found}, indent=1)


def listeners(proxy: Proxy) -> str:
    """Envoy's text form: `name::address:port`."""
    return "".join(
        f"{name}::{listener.spec.address[0]}:{listener.port}\n"
        for name, listener in sorted(proxy.runtime.listeners.items())
    )


def listeners_json(proxy: Proxy) -> str:
    """The same as JSON."""
    found = [
        {
            "name": name,
            "local_address": {
                "socket_address": {"address": listener.spec.address[0], "port_value": listener.port}
            },
        }
        for name, listener in sorted(proxy.runtime.listeners.items())
    ]
    return json.dumps({"listener_statuses": found}, indent=1)
