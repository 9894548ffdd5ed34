"""From xDS messages to the immutable objects the proxy runs on: all or nothing.

A resource is first checked field by field (`fields`): what this proxy does not do is refused by name, never
ignored. Then it is translated: `listeners`, `routes`, `access`, `clusters`, with `values` for what they
share. Protobuf ends here; no message is looked at when a request comes.
"""

from __future__ import annotations


class ConfigError(ValueError):
    """A resource that cannot be used; the message names the field and becomes the NACK's reason."""
