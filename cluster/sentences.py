"""What an API server says against an object, in words a person reads once. Pure.

Kubernetes names the object, the field twice and the Go type it found; a person who has just written the object
needs the field and what it should be.
"""

from __future__ import annotations

import re

_PREFIXES = (
    re.compile(r'^\S+ "[^"]*" is invalid: '),
    re.compile(r'^admission webhook "[^"]*" denied the request: '),
)
_PATH = r"(?P<path>[\w.\[\]/*-]+)"
_RULES = (
    (
        re.compile(_PATH + r': Invalid value: "\w+": \S+ in body must be of type (\w+): "(\w+)"'),
        r"\g<path>: must be of type \2, not \3",
    ),
    (
        re.compile(_PATH + r": Invalid value: (.+?): \S+ in body (should|must)"),
        r"\g<path>: \2 \3",
    ),
    (
        re.compile(_PATH + r': Unsupported value: (".*?"): supported values: '),
        r"\g<path>: \2 is none of ",
    ),
    (
        re.compile(_PATH + r": Required value(?:: \S+ in body is required)?"),
        r"\g<path>: is required",
    ),
)


def plain(message: str) -> str:
    """A refusal without the names of what refused it, each field once: `spec.hosts: is required`.

    What is not recognised stays as it is.
    """
    for prefix in _PREFIXES:
        message = prefix.sub("", message, count=1)
    for pattern, words in _RULES:
        message = pattern.sub(words, message)
    if message.startswith("[") and message.endswith("]"):
        message = message[1:-1].replace(", spec", "; spec")
    return message
