"""Refusals as kube-apiserver writes them become one sentence with the field's path, once."""

import pytest

from cluster.sentences import plain

INVALID = 'VirtualService.networking.istio.io "reviews" is invalid: '
WEIGHT = "spec.http[0].route[1].weight"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            f'{INVALID}{WEIGHT}: Invalid value: "string": {WEIGHT} in body must be of type integer: "string"',
            f"{WEIGHT}: must be of type integer, not string",
        ),
        (
            f"{INVALID}{WEIGHT}: Invalid value: -10: {WEIGHT} in body should be greater than or equal to 0",
            f"{WEIGHT}: -10 should be greater than or equal to 0",
        ),
        (f"{INVALID}spec.hosts: Required value", "spec.hosts: is required"),
        (
            f"{INVALID}[spec.a[0].host: Required value, spec.a[1].host: Required value]",
            "spec.a[0].host: is required; spec.a[1].host: is required",
        ),
        (
            'admission webhook "rules.validation.istio.io" denied the request: spec.http[0].route: all weights are 0',
            "spec.http[0].route: all weights are 0",
        ),
        (
            f'{INVALID}spec.mode: Unsupported value: "HARD": supported values: "STRICT", "PERMISSIVE"',
            'spec.mode: "HARD" is none of "STRICT", "PERMISSIVE"',
        ),
        (
            'virtualservices.networking.istio.io "x" not found',
            'virtualservices.networking.istio.io "x" not found',
        ),
        ("", ""),
    ],
)
def test_a_refusal_is_a_sentence(said: str, sentence: str) -> None:
    assert plain(said) == sentence
