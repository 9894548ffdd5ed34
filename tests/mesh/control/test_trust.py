"""Spreading the root: what is written where, and nothing that is there already."""

import base64

from mesh.control.trust import bundle_patch, root_config_map

ROOT = "-----BEGIN CERTIFICATE-----\n"
BUNDLE = base64.b64encode(ROOT.encode()).decode()


def test_only_webhooks_without_the_bundle_are_patched() -> None:
    hooks = [
        {"clientConfig": {"caBundle": BUNDLE}},
        {"clientConfig": {}},
        {"clientConfig": {"caBundle": "old"}},
    ]
    assert bundle_patch({"webhooks": hooks}, ROOT) == [
        {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": BUNDLE},
        {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": BUNDLE},
    ]
    assert bundle_patch({"webhooks": hooks[:1]}, ROOT) == []
    assert bundle_patch({}, ROOT) == []


def test_the_config_map_is_istios() -> None:
    made = root_config_map("shop", ROOT)
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("istio-ca-root-cert", "shop")
    assert made["data"] == {"root-cert.pem": ROOT}
