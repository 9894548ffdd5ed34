"""From an access log entry to Istio's metric labels. Pure.

An entry says addresses, a cluster name and certificates; the labels say workloads, services and principals.
The sidecar at the server's end knows who called for sure (the certificate), the one at the client's end
knows what was asked for even when nothing answered; so every request inside the mesh is reported twice,
told apart by `reporter`.

Sources: fields of envoy.data.accesslog.v3.HTTPAccessLogEntry; labels of
https://istio.io/latest/docs/reference/config/metrics/
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogCommon, HTTPAccessLogEntry

from mesh.telemetry.directory import UNKNOWN, UNKNOWN_WORKLOAD, Directory, Pod, Workload

PEER_ID = "x-envoy-peer-metadata-id"
_SPIFFE = "spiffe://"
_CACHED = 10_000

# Short names as in Envoy's %RESPONSE_FLAGS%, by field of envoy.data.accesslog.v3.ResponseFlags.
FLAGS = {
    "failed_local_healthcheck": "LH",
    "no_healthy_upstream": "UH",
    "upstream_request_timeout": "UT",
    "local_reset": "LR",
    "upstream_remote_reset": "UR",
    "upstream_connection_failure": "UF",
    "upstream_connection_termination": "UC",
    "upstream_overflow": "UO",
    "no_route_found": "NR",
    "delay_injected": "DI",
    "fault_injected": "FI",
    "rate_limited": "RL",
    "unauthorized_details": "UAEX",
    "rate_limit_service_error": "RLSE",
    "downstream_connection_termination": "DC",
    "upstream_retry_limit_exceeded": "URX",
    "stream_idle_timeout": "SI",
    "invalid_envoy_request_headers": "IH",
    "downstream_protocol_error": "DPE",
    "upstream_max_stream_duration_reached": "UMSDR",
    "response_from_cache_filter": "RFCF",
    "no_filter_config_found": "NFCF",
    "duration_timeout": "DT",
    "upstream_protocol_error": "UPE",
    "no_cluster_found": "NC",
    "overload_manager": "OM",
    "dns_resolution_failure": "DF",
    "downstream_remote_reset": "DR",
}


class Labels(NamedTuple):
    """The labels of a request, all strings, "unknown" where nothing is known; names are Istio's."""

    reporter: str = UNKNOWN
    source_workload: str = UNKNOWN
    source_workload_namespace: str = UNKNOWN
    source_app: str = UNKNOWN
    source_version: str = UNKNOWN
    source_principal: str = UNKNOWN
    destination_service: str = UNKNOWN
    destination_service_name: str = UNKNOWN
    destination_service_namespace: str = UNKNOWN
    destination_workload: str = UNKNOWN
    destination_workload_namespace: str = UNKNOWN
    destination_app: str = UNKNOWN
    destination_version: str = UNKNOWN
    destination_principal: str = UNKNOWN
    request_protocol: str = "http"
    response_code: str = "0"
    response_flags: str = "-"
    connection_security_policy: str = UNKNOWN


class Reporter(NamedTuple):
    """The proxy that reports, and on which side of a request it stood: log name outbound, inbound or
    gateway.
    """

    log_name: str = ""
    namespace: str = ""
    pod: str = ""
    address: str = ""
    workload: Workload = (
        UNKNOWN_WORKLOAD  # as the proxy itself says, for as long as the API does not know the pod
    )


class Facts(NamedTuple):
    """What of an entry decides its labels."""

    caller: str
    local: tuple[str, int]
    upstream: str
    upstream_port: int
    cluster: str
    authority: str
    caller_id: str
    upstream_id: str
    tls: bool
    peer_san: str
    own_san: str
    protocol: str
    code: int
    flags: str


def read_reporter(node: Any, log_name: str) -> Reporter:
    """The reporter, from the envoy.config.core.v3.Node of its stream, named as Istio names its proxies:
    `sidecar~ADDRESS~POD.NAMESPACE~DOMAIN`. Another node name is a reporter of which only its metadata is
    known.
    """
    namespace, pod, address = parse_node_id(node.id)
    fields = node.metadata.fields
    labels = fields["LABELS"].struct_value.fields if "LABELS" in fields else {}
    workload = Workload(
        name=_text(fields, "WORKLOAD_NAME"),
        namespace=_text(fields, "NAMESPACE", namespace or UNKNOWN),
        app=_text(labels, "app"),
        version=_text(labels, "version"),
        service_account=_text(fields, "SERVICE_ACCOUNT", ""),
    )
    return Reporter(log_name, namespace, pod, address, workload)


def parse_node_id(node_id: str) -> tuple[str, str, str]:
    """Namespace, pod and address in a node id of Istio's form; empty strings for any other."""
    parts = node_id.split("~")
    if len(parts) != 4 or "." not in parts[2]:
        return "", "", ""
    # Pod names may contain dots, namespaces may not.
    pod, _, namespace = parts[2].rpartition(".")
    return namespace, pod, parts[1]


def _text(fields: Any, name: str, default: str = UNKNOWN) -> str:
    return (fields[name].string_value if name in fields else "") or default


def read_facts(entry: HTTPAccessLogEntry) -> Facts:
    """What of an entry decides its labels."""
    common, request, response = entry.common_properties, entry.request, entry.response
    direct = common.downstream_direct_remote_address.socket_address.address
    local = common.downstream_local_address.socket_address
    tls = common.tls_properties if common.HasField("tls_properties") else None
    content_type = request.request_headers.get("content-type", "")
    return Facts(
        caller=direct or common.downstream_remote_address.socket_address.address,
        local=(local.address, local.port_value),
        upstream=common.upstream_remote_address.socket_address.address,
        upstream_port=common.upstream_remote_address.socket_address.port_value,
        cluster=common.upstream_cluster,
        authority=request.authority,
        caller_id=request.request_headers.get(PEER_ID, ""),
        upstream_id=response.response_headers.get(PEER_ID, ""),
        tls=tls is not None,
        peer_san=_uri(tls.peer_certificate_properties) if tls is not None else "",
        own_san=_uri(tls.local_certificate_properties) if tls is not None else "",
        protocol="grpc" if content_type.startswith("application/grpc") else "http",
        code=response.response_code.value,
        flags=read_flags(common) if common.HasField("response_flags") else "-",
    )


def read_flags(common: AccessLogCommon) -> str:
    """Envoy's short names of the flags that are set, joined by commas, or "-"."""
    names = (FLAGS.get(field.name, field.name) for field, _ in common.response_flags.ListFields())
    return ",".join(names) or "-"


def _uri(certificate: Any) -> str:
    for name in certificate.subject_alt_name:
        if name.uri:
            return str(name.uri)
    return ""


class Labeller:
    """Labels entries with what a directory knows; remembers answers until the directory changes."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._version = directory.version
        self._known: dict[tuple[Reporter, Facts], Labels] = {}

    def labels(self, reporter: Reporter, facts: Facts) -> Labels:
        """The labels of a request that `reporter` reports with these facts."""
        if self._version != self._directory.version or len(self._known) > _CACHED:
            self._known.clear()
            self._version = self._directory.version
        key = (reporter, facts)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = label(reporter, facts, self._directory)
        return found


def label(reporter: Reporter, facts: Facts, directory: Directory) -> Labels:
    """The labels, worked out anew. A log name that is none of the three is told by the cluster name."""
    inbound = reporter.log_name == "inbound" or (
        reporter.log_name not in ("outbound", "gateway") and facts.cluster.startswith("inbound|")
    )
    found = _at_destination(reporter, facts, directory) if inbound else _at_source(reporter, facts, directory)
    return found._replace(
        request_protocol=facts.protocol, response_code=str(facts.code), response_flags=facts.flags
    )


def _at_destination(reporter: Reporter, facts: Facts, directory: Directory) -> Labels:
    pod = _reporting_pod(reporter, directory) or directory.pod_at(facts.local[0])
    port = facts.cluster.split("|")[1] if facts.cluster.count("|") == 3 else ""
    service = (
        directory.service_of_pod(pod, int(port) if port.isdecimal() else facts.local[1], facts.authority)
        if pod
        else None
    )
    return Labels(
        reporter="destination",
        **_source(_caller(facts, directory)),
        source_principal=facts.peer_san or UNKNOWN,
        **_destination(pod.workload if pod else reporter.workload),
        **({} if service is None else _service(service.host)),
        destination_principal=facts.own_san or UNKNOWN,
        # Without the peer's certificate nobody knows who called, however well encrypted: that is not mutual.
        connection_security_policy="mutual_tls" if facts.tls and facts.peer_san else "none",
    )


def _at_source(reporter: Reporter, facts: Facts, directory: Directory) -> Labels:
    own = _reporting_pod(reporter, directory)
    source = own.workload if own else reporter.workload
    upstream = _pod_of_id(facts.upstream_id, directory) or directory.pod_at(
        facts.upstream, facts.upstream_port
    )
    return Labels(
        reporter="source",
        **_source(source),
        **_asked_for(facts, source.namespace, directory),
        **_destination(upstream.workload if upstream else UNKNOWN_WORKLOAD),
    )


def _asked_for(facts: Facts, namespace: str, directory: Directory) -> Mapping[str, str]:
    """The service, by the cluster the request was routed to; by its Host header when it was routed
    nowhere.
    """
    if facts.cluster.startswith("outbound|") and facts.cluster.count("|") == 3:
        return _service(facts.cluster.split("|")[3])
    service = directory.service_of_host(facts.authority, namespace)
    if service is not None:
        return _service(service.host)
    # Istio puts the name of its own catch-all clusters here: PassthroughCluster, BlackHoleCluster.
    return {"destination_service_name": facts.cluster or UNKNOWN}


def _caller(facts: Facts, directory: Directory) -> Workload:
    """Who called, by what is surest: the id the peer gave, its address, or its certificate if one workload
    has it.

    In the embedded cluster without addresses of their own (macOS) all pods call from 127.0.0.1.
    """
    pod = _pod_of_id(facts.caller_id, directory) or directory.pod_at(facts.caller)
    if pod is not None:
        return pod.workload
    parts = facts.peer_san.removeprefix(_SPIFFE).split("/")
    if len(parts) == 5 and parts[1] == "ns" and parts[3] == "sa":
        by_certificate = directory.only_workload_of(parts[2], parts[4])
        return by_certificate or Workload(namespace=parts[2], service_account=parts[4])
    return UNKNOWN_WORKLOAD


def _reporting_pod(reporter: Reporter, directory: Directory) -> Pod | None:
    return directory.pod_named(reporter.namespace, reporter.pod) or directory.pod_at(reporter.address)


def _pod_of_id(node_id: str, directory: Directory) -> Pod | None:
    namespace, pod, _ = parse_node_id(node_id)
    return directory.pod_named(namespace, pod)


def _source(workload: Workload) -> Mapping[str, str]:
    return {
        "source_workload": workload.name,
        "source_workload_namespace": workload.namespace,
        "source_app": workload.app,
        "source_version": workload.version,
    }


def _destination(workload: Workload) -> Mapping[str, str]:
    return {
        "destination_workload": workload.name,
        "destination_workload_namespace": workload.namespace,
        "destination_app": workload.app,
        "destination_version": workload.version,
    }


def _service(host: str) -> Mapping[str, str]:
    name, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    if not domain.startswith("svc"):  # a host outside the cluster, from a ServiceEntry
        return {"destination_service": host, "destination_service_name": host}
    return {
        "destination_service": host,
        "destination_service_name": name,
        "destination_service_namespace": namespace,
    }
