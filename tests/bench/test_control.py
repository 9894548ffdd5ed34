"""The control plane's bench: what it counts is right; how long it takes is nobody's test."""

from mesh.bench.control import measure


async def test_a_change_sends_each_proxy_only_what_changed() -> None:
    figures = await measure(services=20, proxies=5)
    assert figures["route_change_resources_per_proxy"] == 1.0
    assert figures["endpoint_change_resources_per_proxy"] == 1.0
    assert figures["route_change_last_ack_s"] > 0
