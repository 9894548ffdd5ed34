"""TLS contexts: both sides of mutual TLS between sidecars. Keys and roots come by SDS, never in here.

The secrets have Istio's names: `default` is the workload's own certificate, `ROOTCA` the mesh's root.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2

from mesh.api.client_tls import ClientTLSSettings
from mesh.api.server_tls import ServerTLSSettings
from mesh.control.compile import pb
from mesh.control.compile.naming import SDS_CLUSTER
from mesh.control.world import MeshConfig

OWN_CERTIFICATE = "default"
MESH_ROOT = "ROOTCA"
#: The certificate authorities the operating system trusts (Istio's name for them).
SYSTEM_ROOTS = "file-root:system"
#: Before the name of a secret that is a Kubernetes Secret; after it, where the CA certificate alone is meant.
KUBERNETES = "kubernetes://"
CA_SUFFIX = "-cacert"
#: ALPN between sidecars: the first tells that peers exchange metadata, the second that this is the mesh's own TLS.
PEER_ALPN = ("istio-peer-exchange", "istio")
_SERVER_ALPN = ("istio-peer-exchange", "h2", "http/1.1")
TLS_SOCKET = "envoy.transport_sockets.tls"
RAW_SOCKET = "envoy.transport_sockets.raw_buffer"


def server_socket(mesh: MeshConfig) -> Any:
    """What an inbound listener presents and demands: a client certificate of the trust domain (or an alias of it)."""
    domains = (mesh.trust_domain, *mesh.trust_domain_aliases)
    common = _common(_SERVER_ALPN)
    common.combined_validation_context.CopyFrom(
        _combined(
            [(common_pb2.SubjectAltNameMatcher.URI, pb.prefix(f"spiffe://{name}/")) for name in domains]
        )
    )
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=common, require_client_certificate=pb.boolean(True)
    )
    return base_pb2.TransportSocket(name=TLS_SOCKET, typed_config=pb.pack(context))


def client_socket(sni: str, identities: Sequence[str], *, http2: bool) -> Any:
    """Mutual TLS towards sidecars that must prove one of `identities` (SPIFFE IDs; none: any of the mesh)."""
    common = _common((*PEER_ALPN, "h2") if http2 else PEER_ALPN)
    matchers = [(common_pb2.SubjectAltNameMatcher.URI, pb.exact(identity)) for identity in identities]
    common.combined_validation_context.CopyFrom(_combined(matchers))
    context = tls_pb2.UpstreamTlsContext(common_tls_context=common, sni=sni)
    return base_pb2.TransportSocket(name=TLS_SOCKET, typed_config=pb.pack(context))


def edge_socket(settings: ServerTLSSettings, alpn: Sequence[str]) -> Any:
    """What a gateway's server presents to clients outside of the mesh, and what it demands of them."""
    common = tls_pb2.CommonTlsContext(tls_params=_versions(settings), alpn_protocols=alpn)
    certificates = [kubernetes_secret(name) for name in settings.credentials]
    certificates += [
        _secret(f"file-cert:{each.server_certificate}~{each.private_key}") for each in settings.files
    ]
    common.tls_certificate_sds_secret_configs.extend(certificates)
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=common, require_client_certificate=pb.boolean(settings.mode == "MUTUAL")
    )
    if settings.asks_clients:
        combined = context.common_tls_context.combined_validation_context
        combined.default_validation_context.CopyFrom(_client_validation(settings))
        combined.validation_context_sds_secret_config.CopyFrom(_client_roots(settings))
    return base_pb2.TransportSocket(name=TLS_SOCKET, typed_config=pb.pack(context))


def _client_validation(settings: ServerTLSSettings) -> Any:
    result = _validation([(_san_type(name), pb.exact(name)) for name in settings.subject_alt_names])
    result.verify_certificate_spki.extend(settings.verify_certificate_spki)
    result.verify_certificate_hash.extend(settings.verify_certificate_hash)
    if settings.insecure_skip_verify:
        result.trust_chain_verification = common_pb2.CertificateValidationContext.ACCEPT_UNTRUSTED
    if settings.ca_crl:
        result.crl.filename = settings.ca_crl
    return result


def _client_roots(settings: ServerTLSSettings) -> Any:
    if settings.ca_cert_credential_name:
        return kubernetes_secret(settings.ca_cert_credential_name)
    if settings.credentials:
        return kubernetes_secret(settings.credentials[0] + CA_SUFFIX)
    return _secret(f"file-root:{settings.ca_certificates}")


def origination_socket(settings: ClientTLSSettings, host: str, *, http2: bool) -> Any:
    """TLS to a server outside the mesh's identity (DestinationRule modes SIMPLE and MUTUAL).

    Certificates come by SDS: from files the pod's agent reads (`file-cert:`, `file-root:`), or from a Secret that the
    control plane serves (`kubernetes://NAME`). Names are Istio's.
    """
    sni = settings.sni or host.removeprefix("*.")
    common = tls_pb2.CommonTlsContext(tls_params=_versions(), alpn_protocols=["h2"] if http2 else [])
    if settings.mode == "MUTUAL":
        common.tls_certificate_sds_secret_configs.append(_own_certificate(settings))
    if not settings.insecure_skip_verify:
        names = settings.subject_alt_names or (() if host.startswith("*") else (sni,))
        combined = tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=_validation([(_san_type(name), pb.exact(name)) for name in names]),
            validation_context_sds_secret_config=_roots(settings),
        )
        if settings.ca_crl:
            combined.default_validation_context.crl.filename = settings.ca_crl
        common.combined_validation_context.CopyFrom(combined)
    context = tls_pb2.UpstreamTlsContext(common_tls_context=common, sni=sni)
    return base_pb2.TransportSocket(name=TLS_SOCKET, typed_config=pb.pack(context))


def _own_certificate(settings: ClientTLSSettings) -> Any:
    if settings.credential_name:
        return kubernetes_secret(settings.credential_name)
    return _secret(f"file-cert:{settings.client_certificate}~{settings.private_key}")


def _roots(settings: ClientTLSSettings) -> Any:
    if settings.credential_name:
        return kubernetes_secret(settings.credential_name + CA_SUFFIX)
    return _secret(f"file-root:{settings.ca_certificates}" if settings.ca_certificates else SYSTEM_ROOTS)


def _san_type(name: str) -> Any:
    """SPIFFE identities and other URIs are told from host names by their form."""
    return common_pb2.SubjectAltNameMatcher.URI if "://" in name else common_pb2.SubjectAltNameMatcher.DNS


def kubernetes_secret(name: str) -> Any:
    """A Secret that the control plane reads and serves on the proxy's own stream."""
    return secret_pb2.SdsSecretConfig(name=f"{KUBERNETES}{name}", sds_config=pb.ads())


def raw_socket() -> Any:
    return base_pb2.TransportSocket(name=RAW_SOCKET, typed_config=pb.pack(raw_buffer_pb2.RawBuffer()))


_PROTOCOLS = {
    "TLSV1_0": common_pb2.TlsParameters.TLSv1_0,
    "TLSV1_1": common_pb2.TlsParameters.TLSv1_1,
    "TLSV1_2": common_pb2.TlsParameters.TLSv1_2,
    "TLSV1_3": common_pb2.TlsParameters.TLSv1_3,
}


def _versions(settings: ServerTLSSettings | None = None) -> Any:
    low = settings.min_protocol_version if settings else "TLS_AUTO"
    high = settings.max_protocol_version if settings else "TLS_AUTO"
    return common_pb2.TlsParameters(
        tls_minimum_protocol_version=_PROTOCOLS.get(low, common_pb2.TlsParameters.TLSv1_2),
        tls_maximum_protocol_version=_PROTOCOLS.get(high, common_pb2.TlsParameters.TLSv1_3),
        cipher_suites=settings.cipher_suites if settings else (),
    )


def _common(alpn: Sequence[str]) -> Any:
    return tls_pb2.CommonTlsContext(
        tls_params=_versions(),
        alpn_protocols=alpn,
        tls_certificate_sds_secret_configs=[_secret(OWN_CERTIFICATE)],
    )


def _combined(names: list[tuple[Any, Any]], roots: str = MESH_ROOT) -> Any:
    return tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
        default_validation_context=_validation(names), validation_context_sds_secret_config=_secret(roots)
    )


def _validation(names: list[tuple[Any, Any]]) -> Any:
    result = common_pb2.CertificateValidationContext()
    for san_type, matcher in names:
        result.match_typed_subject_alt_names.add(san_type=san_type, matcher=matcher)
    return result


def _secret(name: str) -> Any:
    service = grpc_service_pb2.GrpcService(
        envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=SDS_CLUSTER)
    )
    source = config_source_pb2.ApiConfigSource(
        api_type=config_source_pb2.ApiConfigSource.GRPC,
        transport_api_version=pb.V3,
        set_node_on_first_message_only=True,
        grpc_services=[service],
    )
    return secret_pb2.SdsSecretConfig(
        name=name,
        sds_config=config_source_pb2.ConfigSource(
            api_config_source=source, initial_fetch_timeout=pb.duration(0), resource_api_version=pb.V3
        ),
    )


__all__ = ["client_socket", "origination_socket", "raw_socket", "server_socket"]
