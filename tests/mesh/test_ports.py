"""Real ports stand for declared ones only where the environment says so."""

from mesh.ports import really


def test_really() -> None:
    assert really(15012, {}) == 15012
    assert really(15012, {"LAB_PORTS": '{"15012": 20001}'}) == 20001
    assert really(15011, {"LAB_PORTS": '{"15012": 20001}'}) == 15011
