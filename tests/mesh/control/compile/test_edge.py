"""Who may say where a client is: gateways look it up, and plaintext may not say it at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from envoy.extensions.filters.http.geoip.v3 import geoip_pb2
from envoy.extensions.geoip_providers.maxmind.v3 import maxmind_pb2

from mesh.control.compile import LISTENER, compile
from mesh.control.ingest import ConfigError, mesh_config
from tests.mesh.control.compile.test_listeners import manager
from tests.worlds import bookinfo, gateway, sample, sidecar

STRIP, GEO = "envoy.filters.http.header_mutation", "envoy.filters.http.geoip"


def edge_of(database: str, hops: int = 0) -> Any:
    world = bookinfo(*sample("bookinfo-gateway"))
    world = world.evolve(mesh=replace(world.mesh, trusted_proxies=hops))
    proxy = replace(gateway(world), geo_database=database)
    listener: Any = compile(world, proxy).by_type[LISTENER]["10.0.0.51_8080"]
    return manager(listener.filter_chains[0])


def test_a_gateway_forgets_claims_and_then_looks_up() -> None:
    found = edge_of("/city.mmdb", hops=2)
    assert [f.name for f in found.http_filters[:2]] == [STRIP, GEO]
    assert found.xff_num_trusted_hops == 2
    config, maxmind = geoip_pb2.Geoip(), maxmind_pb2.MaxMindConfig()
    found.http_filters[1].typed_config.Unpack(config)
    config.provider.typed_config.Unpack(maxmind)
    assert maxmind.city_db_path == "/city.mmdb"
    assert maxmind.common_provider_config.geo_field_keys.region == "x-geo-region"


def test_a_gateway_without_database_only_forgets_claims() -> None:
    names = [f.name for f in edge_of("").http_filters]
    assert names[0] == STRIP
    assert GEO not in names


def test_a_sidecar_believes_the_mesh_and_not_plaintext() -> None:
    world = bookinfo()
    proxy = sidecar("reviews-v1", world)
    for name, listener in compile(world, proxy).by_type[LISTENER].items():
        chains: Any = listener.filter_chains  # type: ignore[attr-defined]
        stripping = {c.name: STRIP in [f.name for f in manager(c).http_filters] for c in chains}
        assert stripping == ({"": False} if name == "http_proxy" else {"mtls": False, "plaintext": True})


def test_how_many_proxies_are_trusted_is_mesh_configuration() -> None:
    topology = "defaultConfig: {gatewayTopology: {numTrustedProxies: %s}}"
    assert mesh_config(topology % 2).trusted_proxies == 2
    assert mesh_config("").trusted_proxies == 0
    for wrong in ("-1", "many", "true", "1.5"):
        try:
            mesh_config(topology % wrong)
        except ConfigError as error:
            assert "numTrustedProxies" in str(error)
        else:
            raise AssertionError(wrong)
