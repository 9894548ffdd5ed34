"""`mesh brief`: words in, a rule out, a sentence for what cannot be meant."""

from __future__ import annotations

import pytest
import yaml

from mesh.api import validate
from mesh.cli import main


def test_words_become_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["brief", "--area", "Southern Spain", "--device", "iPhone", "--share", "50"]
    assert main(words) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert validate(found) == []
    assert found["spec"]["http"][0]["match"][0]["headers"]["x-device-family"] == {"exact": "iPhone"}
    assert main([*words, "--json"]) == 0


@pytest.mark.parametrize("wrong", [["--area", "Atlantis"], ["--share", "200"], ["--key", "claim:sub"]])
def test_what_cannot_be_meant_is_said_in_a_sentence(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["brief", *wrong]) == 1
    assert capsys.readouterr().err.startswith("mesh: ")
