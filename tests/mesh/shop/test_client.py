"""The habits that make calls meshable: proxy from the environment, names by Python, calls from the pod's
address.
"""

from mesh.shop.client import forwarded, proxy_for, service_url


def test_proxy_from_the_environment(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_for("http://reviews:9080") is None
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:15001")
    monkeypatch.setenv("no_proxy", "localhost,.svc")
    assert proxy_for("http://reviews:9080") == "http://127.0.0.1:15001"
    assert proxy_for("http://reviews.default.svc:9080") is None
    assert proxy_for("https://reviews") is None


def test_service_urls_as_bookinfo_sets_them(monkeypatch):
    for name in ("RATINGS_HOSTNAME", "RATINGS_SERVICE_PORT", "SERVICES_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    assert service_url("ratings") == "http://ratings:9080"
    monkeypatch.setenv("SERVICES_DOMAIN", "shop.svc")
    monkeypatch.setenv("RATINGS_SERVICE_PORT", "80")
    assert service_url("ratings") == "http://ratings.shop.svc:80"


def test_forwards_only_what_it_should():
    assert forwarded({"end-user": "jason", "host": "x", "connection": "close"}) == {"end-user": "jason"}
