"""JupyterLab is asked for a lesson, with settings of ours that JupyterLab itself knows."""

import json
import subprocess
import sys
from pathlib import Path

import jupyterlab
import pytest

from widgets import jupyter

SCHEMAS = Path(jupyterlab.__file__).parent / "schemas"


@pytest.mark.parametrize("name", ["02", "02-canary", "02-canary.ipynb"])
def test_a_lesson_by_any_name(name: str) -> None:
    assert jupyter.lesson(name).name == "02-canary.ipynb"


def test_an_unknown_lesson_names_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match=r'no lesson "99"; there are .*02-canary\.ipynb'):
        jupyter.command("99")


def test_the_lesson_opens_in_the_environment_s_own_jupyterlab() -> None:
    argv, env = jupyter.command("02", port=9999, browser=False, token="secret")
    assert argv[:3] == [sys.executable, "-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/labs/02-canary.ipynb" in argv
    assert "--no-browser" in argv
    assert env["JUPYTER_TOKEN"] == "secret" and not any("secret" in argument for argument in argv)
    assert "--no-browser" not in jupyter.command("02")[0]


def test_the_kernel_the_lesson_asks_for_is_this_python() -> None:
    _, env = jupyter.command("02")
    asked = json.loads(jupyter.lesson("02").read_text(encoding="utf-8"))["metadata"]["kernelspec"]["name"]
    listing = subprocess.run(
        [sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"],
        env=env,
        capture_output=True,
        check=True,
    )
    spec = json.loads(listing.stdout)["kernelspecs"][asked]["spec"]
    assert spec["argv"][1:4] == ["-m", "ipykernel_launcher", "-f"] or "ipykernel_launcher" in spec["argv"]


def test_jupyterlab_knows_every_setting_we_override() -> None:
    overrides = json.loads(
        (jupyter.course() / "jupyter/labconfig/default_setting_overrides.json").read_text()
    )
    for plugin, settings in overrides.items():
        package, name = plugin.split(":")
        schema = json.loads((SCHEMAS / package / f"{name}.json").read_text())
        assert set(settings) <= set(schema["properties"]), plugin


def test_jupyterlab_reads_our_settings() -> None:
    code = (
        "import json; from jupyterlab_server.settings_utils import _get_overrides; "
        "print(json.dumps(_get_overrides('.')[0]))"
    )
    _, env = jupyter.command("02")
    read = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    settings = json.loads(read.stdout)
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
