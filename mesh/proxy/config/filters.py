"""HTTP filters by the type of their configuration, for a chain and for one route."""

from __future__ import annotations

from typing import Any as AnyType

from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.geoip.v3 import geoip_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.geoip_providers.maxmind.v3 import maxmind_pb2
from google.protobuf.struct_pb2 import Struct
from xds.type.v3 import typed_struct_pb2

from mesh.proxy.config import ConfigError, access, values
from mesh.proxy.config.fields import unpack
from mesh.proxy.filters import Filter
from mesh.proxy.filters.cors import Cors, CorsPolicy
from mesh.proxy.filters.fault import Fault, FaultFilter
from mesh.proxy.filters.rbac import Rbac
from mesh.proxy.filters.strip import Strip


def chain_filter(message: AnyType, where: str) -> Filter | None:
    """One of a connection manager's `http_filters`; None for the router, which is built in as the last.

    Raises ConfigError for a filter this proxy has not.
    """
    config = unpack(message.typed_config, f"{where}.typed_config")
    if isinstance(config, router_pb2.Router):
        return None
    if isinstance(config, rbac_pb2.RBAC):
        found = access.rules(config.rules, f"{where}.rules") if config.HasField("rules") else None
        return Rbac(message.name, found)
    if isinstance(config, fault_pb2.HTTPFault):
        return FaultFilter(message.name, _fault(config, where))
    if isinstance(config, cors_pb2.Cors):
        return Cors(message.name)
    if isinstance(config, header_mutation_pb2.HeaderMutation):
        return Strip(message.name, _removed(config, where))
    if isinstance(config, geoip_pb2.Geoip):
        return _geo(message.name, config, f"{where}.provider")
    if isinstance(config, typed_struct_pb2.TypedStruct) and config.type_url == DEVICE_FILTER:
        return _device(message.name, config.value, f"{where}.typed_config.value")
    raise ConfigError(f"{where}: filter {config.DESCRIPTOR.full_name} is not supported")


def route_filter(message: AnyType, where: str) -> object:
    """What a route says to the filter of that name. Raises ConfigError."""
    config = unpack(message, where)
    if isinstance(config, fault_pb2.HTTPFault):
        return _fault(config, where)
    if isinstance(config, rbac_pb2.RBACPerRoute):
        if not config.HasField("rbac") or not config.rbac.HasField("rules"):
            return None
        return access.rules(config.rbac.rules, f"{where}.rbac.rules")
    if isinstance(config, cors_pb2.CorsPolicy):
        return _cors(config, where)
    raise ConfigError(f"{where}: {config.DESCRIPTOR.full_name} is not supported")


DEVICE_FILTER = "type.googleapis.com/mesh_lab.filters.http.Device"
"""Our own filter's configuration: a Struct of header names with the keys family, system, type."""


def _device(name: str, config: Struct, where: str) -> Filter:
    from mesh.proxy.filters.device import DeviceFilter  # five megabytes that only gateways need

    names: dict[str, str] = {}
    for key, value in config.fields.items():
        if key not in ("family", "system", "type") or value.WhichOneof("kind") != "string_value":
            raise ConfigError(f"{where}.{key}: only header names for family, system and type are supported")
        names[key] = value.string_value
    return DeviceFilter(name, names)


def _removed(config: header_mutation_pb2.HeaderMutation, where: str) -> list[str]:
    for number, mutation in enumerate(config.mutations.request_mutations):
        if not mutation.remove:
            raise ConfigError(f"{where}.mutations.request_mutations[{number}]: only remove is supported")
    return [mutation.remove for mutation in config.mutations.request_mutations]


def _geo(name: str, config: geoip_pb2.Geoip, where: str) -> Filter:
    from mesh.proxy import geography
    from mesh.proxy.filters.geo import Geo

    provider = unpack(config.provider.typed_config, where)
    if not isinstance(provider, maxmind_pb2.MaxMindConfig) or not provider.city_db_path:
        raise ConfigError(f"{where}: only a maxmind provider with city_db_path is supported")
    keys = provider.common_provider_config.geo_field_keys
    names = {"country": keys.country, "region": keys.region, "city": keys.city}
    return Geo(name, geography.atlas(provider.city_db_path), names)


_GRPC_STATUS = {
    1: 499, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 14: 503, 16: 401
}  # fmt: skip
"""gRPC status to HTTP status, for requests that are not gRPC (Envoy's `grpcToHttpStatus`); others are 500."""


def _fault(config: fault_pb2.HTTPFault, where: str) -> Fault:
    delay, abort = config.delay, config.abort
    if config.HasField("abort") and not abort.WhichOneof("error_type"):
        raise ConfigError(f"{where}.abort: one of http_status, grpc_status is needed")
    return Fault(
        values.seconds(delay.fixed_delay),
        values.share(delay.percentage),
        abort.http_status or _GRPC_STATUS.get(abort.grpc_status, 500 if config.HasField("abort") else 0),
        values.share(abort.percentage),
        [values.header_match(header, f"{where}.headers") for header in config.headers],
    )


def _cors(config: cors_pb2.CorsPolicy, where: str) -> CorsPolicy:
    return CorsPolicy(
        [values.string_match(origin, where) for origin in config.allow_origin_string_match],
        config.allow_methods.encode(),
        config.allow_headers.encode(),
        config.expose_headers.encode(),
        config.max_age.encode(),
        config.allow_credentials.value,
        config.forward_not_matching_preflights.value
        if config.HasField("forward_not_matching_preflights")
        else True,
    )
