"""The HTTP connection manager: what every HTTP listener has in common, and where its kinds differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from envoy.config.core.v3 import protocol_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as tcp_rbac
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from mesh.control.compile import access_log, authz, ext_authz, jwt, pb, tracing
from mesh.control.compile.actions import CORS_FILTER, FAULT_FILTER
from mesh.control.compile.authz_matchers import JWT_FILTER
from mesh.control.world import Labels, MeshConfig, World

Side = Literal["inbound", "outbound", "gateway"]

_HCM = "envoy.filters.network.http_connection_manager"
_RBAC_PREFIX = "istio_rbac_"


class Admission(NamedTuple):
    """What stands before a workload: whose tokens it takes, and the checks of its access policies, in order."""

    tokens: Any | None = None
    checks: Sequence[authz.Check] = ()


OPEN = Admission()


def admission(
    world: World, namespace: str, labels: Labels, *, http: bool, at_edge: bool = False
) -> Admission:
    """What the policies say of a workload with these labels."""
    policies = authz.policies_for(world, namespace, labels)
    tokens = jwt.filter_for(world, namespace, labels, at_edge=at_edge) if http else None
    return Admission(tokens, authz.checks(world.mesh, policies, http=http))


def network_filter(
    mesh: MeshConfig,
    side: Side,
    stat_prefix: str,
    *,
    rds: str = "",
    routes: Any = None,
    admission: Admission = OPEN,
    first: Sequence[Any] = (),
) -> Any:
    """The connection manager as a listener's filter; routes either inline or by RDS name.

    `first` are HTTP filters that stand before all others.
    """
    manager = hcm.HttpConnectionManager(
        stat_prefix=stat_prefix,
        server_name="istio-envoy",
        http_filters=[*first, *_filters(side, admission)],
        access_log=access_log.http(mesh, side),
        use_remote_address=pb.boolean(side == "gateway"),
        xff_num_trusted_hops=mesh.trusted_proxies if side == "gateway" else 0,
        normalize_path=pb.boolean(True),
        stream_idle_timeout=pb.duration(0),
        http_protocol_options=protocol_pb2.Http1ProtocolOptions(allow_absolute_url=pb.boolean(True)),
        # The app's own Server header is worth more to the reader than ours.
        server_header_transformation=hcm.HttpConnectionManager.PASS_THROUGH,
    )
    _client_certificate(manager, side, ends_tls=rds.startswith("https."))
    if mesh.trace_service:
        manager.tracing.CopyFrom(tracing.settings(mesh, side))
    if rds:
        manager.rds.CopyFrom(hcm.Rds(config_source=pb.ads(), route_config_name=rds))
    else:
        manager.route_config.CopyFrom(routes)
    return listener_components_pb2.Filter(name=_HCM, typed_config=pb.pack(manager))


def _client_certificate(manager: Any, side: Side, *, ends_tls: bool) -> None:
    """x-forwarded-client-cert: inbound tells the app who called, the edge lets nobody claim it."""
    if side == "inbound":
        manager.forward_client_cert_details = hcm.HttpConnectionManager.APPEND_FORWARD
    elif side == "gateway":
        manager.forward_client_cert_details = hcm.HttpConnectionManager.SANITIZE_SET
    if side == "inbound" or ends_tls:
        details = manager.set_current_client_cert_details
        details.subject.value = True
        details.uri = True
        details.dns = True


def _filters(side: Side, admission: Admission) -> list[Any]:
    """In order: whose request is this and may it pass; is it a browser's preflight, shall it fail on purpose."""
    filters = []
    if admission.tokens is not None:
        filters.append(http_filter(JWT_FILTER, admission.tokens))
    for check in admission.checks:
        config = http_rbac.RBAC(
            rules=check.rules,
            shadow_rules=check.shadow,
            rules_stat_prefix=_RBAC_PREFIX if check.rules else "",
            shadow_rules_stat_prefix=check.shadow_prefix,
        )
        filters.append(http_filter(ext_authz.HTTP_RBAC, config))
        if check.provider:
            asked = ext_authz.http_filter(check.provider)
            filters.append(http_filter("envoy.filters.http.ext_authz", asked))
    if side != "inbound":
        filters += [
            http_filter(CORS_FILTER, cors_pb2.Cors()),
            http_filter(FAULT_FILTER, fault_pb2.HTTPFault()),
        ]
    return [*filters, http_filter("envoy.filters.http.router", router_pb2.Router())]


def http_filter(name: str, config: Any) -> Any:
    return hcm.HttpFilter(name=name, typed_config=pb.pack(config))


def tcp_filters(mesh: MeshConfig, side: Side, cluster: str, admission: Admission = OPEN) -> list[Any]:
    """For connections that are not HTTP: may this peer connect, then bytes both ways."""
    filters = []
    for check in admission.checks:
        config = tcp_rbac.RBAC(
            rules=check.rules,
            shadow_rules=check.shadow,
            stat_prefix=_RBAC_PREFIX,
            shadow_rules_stat_prefix=check.shadow_prefix,
        )
        filters.append(_network_filter(ext_authz.TCP_RBAC, config))
        if check.provider:
            asked = ext_authz.tcp_filter(check.provider)
            filters.append(_network_filter("envoy.filters.network.ext_authz", asked))
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix=cluster, cluster=cluster, access_log=access_log.tcp(mesh, side)
    )
    return [*filters, _network_filter("envoy.filters.network.tcp_proxy", proxy)]


def _network_filter(name: str, config: Any) -> Any:
    return listener_components_pb2.Filter(name=name, typed_config=pb.pack(config))
