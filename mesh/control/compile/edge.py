"""What is known of a client by the time routes are chosen: HTTP filters that stand before all others.

The gateway looks up where the client is, in Envoy's own `geoip` filter, and sets headers that any rule behind it can
match. A header is only worth as much as who set it, so it is removed first wherever it may come from somebody else:
at the gateway, and where a sidecar takes plaintext. Those who have shown a certificate of the mesh are believed: they
pass on what the gateway told them.
"""

from __future__ import annotations

from typing import Any

from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.extensions.filters.http.geoip.v3 import geoip_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.geoip_providers.common.v3 import common_pb2
from envoy.extensions.geoip_providers.maxmind.v3 import maxmind_pb2
from xds.type.v3 import typed_struct_pb2

from mesh.control.compile import http, pb
from mesh.control.world import Proxy

DEVICE_FILTER = "type.googleapis.com/mesh_lab.filters.http.Device"
"""The type of our own filter's configuration; Envoy has none like it and leaves it out."""

COUNTRY, REGION, CITY = GEOGRAPHY = ("x-geo-country", "x-geo-region", "x-geo-city")
FAMILY, SYSTEM, TYPE = DEVICE = ("x-device-family", "x-device-os", "x-device-type")


def filters(proxy: Proxy) -> list[Any]:
    """What a gateway does first. One without a database knows nothing of places."""
    places = [geoip(proxy.geo_database)] if proxy.geo_database else []
    return [strip(), *places, device_for_envoy() if proxy.is_envoy else device()]


def strip() -> Any:
    """Remove what only a gateway may say."""
    mutations = [mutation_rules_pb2.HeaderMutation(remove=name) for name in (*GEOGRAPHY, *DEVICE)]
    config = header_mutation_pb2.HeaderMutation(
        mutations=header_mutation_pb2.Mutations(request_mutations=mutations)
    )
    return http.http_filter("envoy.filters.http.header_mutation", config)


def geoip(database: str) -> Any:
    """Look the trusted client address up in a City database (MaxMind's format)."""
    keys = common_pb2.CommonGeoipProviderConfig.GeolocationFieldKeys(
        country=COUNTRY, region=REGION, city=CITY
    )
    maxmind = maxmind_pb2.MaxMindConfig(
        city_db_path=database,
        common_provider_config=common_pb2.CommonGeoipProviderConfig(geo_field_keys=keys),
    )
    provider = extension_pb2.TypedExtensionConfig(
        name="envoy.geoip_providers.maxmind", typed_config=pb.pack(maxmind)
    )
    return http.http_filter("envoy.filters.http.geoip", geoip_pb2.Geoip(provider=provider))


def device() -> Any:
    """Tell the client's device from User-Agent and client hints: a filter only our proxy has."""
    config = typed_struct_pb2.TypedStruct(type_url=DEVICE_FILTER)
    config.value.update({"family": FAMILY, "system": SYSTEM, "type": TYPE})
    made = http.http_filter("mesh_lab.filters.http.device", config)
    made.is_optional = True
    return made


_DEVICE_SCRIPT = f"""
local known = {{
  {{"%(iPhone;", "iPhone", "iOS", "phone"}},
  {{"%(iPad;", "iPad", "iOS", "tablet"}},
  {{"%(Macintosh;", "Mac", "macOS", "desktop"}},
  {{"Windows NT", nil, "Windows", "desktop"}},
  {{"Android.*Mobile", nil, "Android", "phone"}},
  {{"Android", nil, "Android", "tablet"}},
}}
function envoy_on_request(request)
  local headers = request:headers()
  local agent = (headers:get("user-agent") or ""):sub(1, 2048)
  for _, row in ipairs(known) do
    if agent:find(row[1]) then
      if row[2] then headers:add("{FAMILY}", row[2]) end
      headers:add("{SYSTEM}", row[3])
      headers:add("{TYPE}", row[4])
      break
    end
  end
  request:clearRouteCache()
end
"""


def device_for_envoy() -> Any:
    """The same as far as a few lines of Lua can tell: Apple's families by name, of others system and type.

    Envoy chooses the route before its filters run and keeps it, whatever they set; the last line has it choose again.
    """
    config = lua_pb2.Lua()
    config.default_source_code.inline_string = _DEVICE_SCRIPT
    return http.http_filter("envoy.filters.http.lua", config)
