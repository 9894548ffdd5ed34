"""Clusters as the CLI handles them: started, found, refused, swept."""

import os
import socket
from pathlib import Path

import pytest

from cluster.embedded.client import ClusterError, EmbeddedCluster
from tests.cluster.conftest import Lab


def test_a_second_start_of_the_same_name_is_refused(embedded: EmbeddedCluster) -> None:
    home = embedded.state_dir.parents[1]
    with pytest.raises(ClusterError, match='"tests" already runs'):
        EmbeddedCluster.start("tests", state_home=home)
    assert EmbeddedCluster.find("tests", home) == embedded.__class__(
        embedded.name, embedded.server, embedded.kubeconfig, embedded.pid, embedded.state_dir, embedded.mark
    )
    assert EmbeddedCluster.find("nobody", home) is None


def test_two_clusters_never_meet(embedded: EmbeddedCluster, tmp_path: Path) -> None:
    other = EmbeddedCluster.start("tests", state_home=tmp_path)
    try:
        assert other.server != embedded.server
        assert Lab(other, "default").run("get", "pods").stdout == ""
        assert [found.name for found in EmbeddedCluster.list(tmp_path)] == ["tests"]
    finally:
        other.stop()
    assert not other.alive and not list((tmp_path / "clusters").iterdir())
    host, port = other.server.removeprefix("https://").split(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0
    other.stop()  # once more does no harm
    assert embedded.alive


def test_a_failed_start_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    (broken / "aiohttp").mkdir(parents=True)
    (broken / "aiohttp" / "__init__.py").write_text("raise RuntimeError('no aiohttp today')")
    monkeypatch.syspath_prepend(str(broken))
    with pytest.raises(ClusterError, match=r"(?s)failed to start.*no aiohttp today"):
        EmbeddedCluster.start("bad", state_home=tmp_path)
    assert not list((tmp_path / "clusters").iterdir())


def test_a_module_that_cannot_be_preloaded_does_not_stop_the_cluster(tmp_path: Path) -> None:
    cluster = EmbeddedCluster.start("odd", preload=["no_such_module"], state_home=tmp_path)
    try:
        lab = Lab(cluster, "default")
        lab.until(
            lambda: "preload of no_such_module failed" in (cluster.state_dir / "cluster.log").read_text()
        )
    finally:
        cluster.stop()


def test_bad_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="lower case"):
        EmbeddedCluster.start("../evil", state_home=tmp_path)


def test_what_a_power_cut_left_is_swept(tmp_path: Path) -> None:
    dead = tmp_path / "clusters" / "dead"
    dead.mkdir(parents=True)
    for name in ("lock", "cluster.log"):
        (dead / name).touch()
    cluster = EmbeddedCluster.start("alive", state_home=tmp_path)
    cluster.stop()
    assert not list((tmp_path / "clusters").iterdir())


def test_handing_over_to_nobody_is_refused(embedded: EmbeddedCluster) -> None:
    with pytest.raises(ClusterError, match="no process"):
        embedded.own(2**22 - 3)
    embedded.own(os.getpid())
    found = EmbeddedCluster.find("tests", embedded.state_dir.parents[1])
    assert found
    with pytest.raises(ClusterError, match="only by the process that started it"):
        found.own(os.getpid())
