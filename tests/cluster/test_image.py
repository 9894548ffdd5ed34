"""The lab's image: what goes in, the commands that build it, and with a Docker that runs the image itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cluster import engine as engines
from cluster import image, sitepackages
from cluster.base import ClusterError
from cluster.engine import Engine
from cluster.sitepackages import Platform, host
from tests.support.fakes import Fakes

ENGINE = Engine("docker", 0, "amd64", "")


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.delenv(image.BASE_ENV, raising=False)
    monkeypatch.setattr(image, "collect", lambda into, platform: _little(into))
    found = Fakes(programs)
    found.says("docker run", "3 11 x86_64 glibc\nredirects\n")
    found.says("docker build")
    return found


def _little(into: Path) -> None:
    into.mkdir()
    (into / "module.py").write_text("x = 1\n")


def test_what_pods_need_goes_in_and_what_notebooks_need_does_not() -> None:
    names = {found.name.lower() for found in sitepackages.installed()}
    assert {"grpcio", "kubernetes", "xds-protos", "uvloop", "cryptography", "aiohttp"} <= names
    assert not names & {"jupyterlab", "plotly", "ipywidgets", "pytest", "mypy", "pytest-kind"}


def test_our_package_is_there_without_caches(tmp_path: Path) -> None:
    sitepackages._copy_package("mesh", tmp_path)
    assert (tmp_path / "mesh" / "proxy" / "__main__.py").exists()
    assert (tmp_path / "mesh" / "manifests" / "templates" / "control.yaml").exists()
    assert not list(tmp_path.rglob("__pycache__"))


def test_wheels_for_another_platform_are_asked_for_by_its_tags() -> None:
    assert Platform("3.11", "arm64", "glibc").tags[-1] == "manylinux2014_aarch64"
    assert Platform("3.11", "amd64", "musl").tags[0] == "musllinux_1_2_x86_64"
    assert host().python.startswith("3.")


def test_pip_or_uv_fetches_for_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Platform("3.12", "arm64", "musl")
    assert "musllinux_1_2_aarch64" in sitepackages._installer(other)
    monkeypatch.setattr(sitepackages.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sitepackages.shutil, "which", lambda name: "/bin/uv")
    assert sitepackages._installer(other)[-1] == "aarch64-unknown-linux-musl"
    monkeypatch.setattr(sitepackages.shutil, "which", lambda name: None)
    with pytest.raises(ClusterError, match="install pip or uv"):
        sitepackages._installer(other)


def test_the_same_content_has_the_same_name_and_is_built_once(fakes: Fakes) -> None:
    fakes.fails("docker image inspect --format {{.Id}} service-mesh-lab", "No such image")
    first = image.ensure(ENGINE, "7", "base:1")
    assert first.startswith("service-mesh-lab:7-")
    built = [line for line in fakes.asked if line.startswith("docker build")]
    assert len(built) == 1 and "--network none" in built[0] and "BASE=base:1" in built[0]
    fakes.says("docker image inspect --format {{.Id}} service-mesh-lab", "sha256:2")
    assert image.ensure(ENGINE, "7", "base:1") == first
    assert len([line for line in fakes.asked if line.startswith("docker build")]) == 1
    fakes.says("docker image inspect", "sha256:other base\n")
    assert image.ensure(ENGINE, "7", "base:1") != first


def test_a_base_without_iptables_is_built_with_network(fakes: Fakes) -> None:
    fakes.fails("docker image inspect --format {{.Id}} service-mesh-lab", "No such image")
    fakes.says("docker run", "3 12 aarch64 musl\n")
    assert image.look_at(ENGINE, "base:1").platform == Platform("3.12", "arm64", "musl")
    image.ensure(ENGINE, "7", "base:1")
    built = next(line for line in fakes.asked if line.startswith("docker build"))
    assert "--network" not in built and "REDIRECTS= " in built


def test_bases_that_will_not_do(fakes: Fakes) -> None:
    fakes.says("docker run", "3 9 x86_64 glibc\n")
    with pytest.raises(ClusterError, match=r"has Python 3\.9; name one with 3\.11"):
        image.ensure(ENGINE, "7", "old:1")
    fakes.fails("docker run", "exec: sh: not found")
    with pytest.raises(ClusterError, match="no Python that runs"):
        image.ensure(ENGINE, "7", "scratch:1")
    fakes.fails("docker image inspect", "No such image")
    fakes.fails("docker pull", "no route to host")
    with pytest.raises(ClusterError, match="cannot be fetched"):
        image.ensure(ENGINE, "7", "absent:1")


def test_a_build_that_fails_says_its_last_line(fakes: Fakes) -> None:
    fakes.fails("docker image inspect --format {{.Id}} service-mesh-lab", "No such image")
    fakes.fails("docker build", "step 4\nno space left on device\n")
    with pytest.raises(ClusterError, match=r"cannot be built on base:1: no space left"):
        image.ensure(ENGINE, "7", "base:1")


def _why_no_docker() -> str:
    if not os.environ.get(image.BASE_ENV):
        return f"{image.BASE_ENV} names no base image to build on"
    try:
        engines.find()
    except ClusterError as error:
        return str(error)
    return ""


@pytest.mark.kind
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(_why_no_docker()), reason=_why_no_docker())
def test_the_image_runs_every_part_as_nobody_on_a_read_only_disk() -> None:
    engine = engines.find()
    name = image.ensure(engine, "test")
    size = image.compressed_size(engine, name)
    print(f"compressed: {size / 1e6:.0f} MB")
    assert size <= 150e6
    run = [engine.program, "run", "--rm", "--read-only", "--network", "none"]
    for module in ("mesh.control", "mesh.proxy", "mesh.telemetry", "mesh.shop", "mesh.shop.visitors"):
        subprocess.run([*run, name, "python", "-m", module, "--help"], check=True, capture_output=True)
    assert subprocess.check_output([*run, name, "id", "-u"], text=True).strip() == "1337"
    rights = ["--user", "0:0", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"]
    redirect = ["python", "-m", "mesh.proxy.redirect"]
    subprocess.run([*run, *rights, name, *redirect], check=True, capture_output=True)
    refused = subprocess.run([*run, name, *redirect], check=False, capture_output=True, text=True)
    assert refused.returncode == 1 and "NET_ADMIN" in refused.stderr
