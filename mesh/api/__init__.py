"""Istio's API kinds as typed models.

Reading order: `scalars` and `problems`, then `model` (the base of all), the kinds (`virtual_service` with
`matching` and `routing`, `destination_rule`, `gateway`, `peer_authentication`, `authorization_policy`), the
table that lists them (`kinds`), and what is made from it: `parse`, `crds`, `fields`.
"""

from mesh.api.kinds import BY_NAME, KINDS, Kind, why_unsupported
from mesh.api.objects import ConfigObject
from mesh.api.parse import parse, parse_spec, validate
from mesh.api.problems import Invalid, Problem

__all__ = [
    "BY_NAME",
    "KINDS",
    "ConfigObject",
    "Invalid",
    "Kind",
    "Problem",
    "parse",
    "parse_spec",
    "validate",
    "why_unsupported",
]
