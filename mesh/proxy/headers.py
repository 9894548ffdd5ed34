"""Changes a route makes to headers: `request_headers_to_add`, `..._to_remove` and the same for answers.

Compiled once; a value with a command such as `%DOWNSTREAM_REMOTE_ADDRESS%` becomes a function, any other
stays the bytes it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mesh.proxy.wire import Headers

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange

Value = Callable[["Exchange"], bytes]


class HeaderEdit:
    """One header to set. `how` is Envoy's `append_action`, in lower case."""

    __slots__ = ("how", "name", "value")

    def __init__(self, name: bytes, value: bytes | Value, how: str = "append_if_exists_or_add") -> None:
        self.name = name.lower()
        self.value = value
        self.how = how

    def apply(self, headers: Headers, exchange: Exchange) -> Headers:
        """The headers with this one set, as `how` says about one that is there already."""
        if self.how != "append_if_exists_or_add":
            others = [pair for pair in headers if pair[0] != self.name]
            present = len(others) != len(headers)
            if present if self.how == "add_if_absent" else self.how == "overwrite_if_exists" and not present:
                return headers
            headers = others
        value = self.value if isinstance(self.value, bytes) else self.value(exchange)
        return [*headers, (self.name, value)]


class HeaderEdits:
    """All changes of a route, a virtual host and a table, in the order they apply."""

    __slots__ = (
        "_add",
        "_add_answer",
        "_authority",
        "_remove",
        "_remove_answer",
        "changes_answer",
        "changes_request",
    )

    def __init__(
        self,
        add: Sequence[HeaderEdit] = (),
        remove: Sequence[bytes] = (),
        add_answer: Sequence[HeaderEdit] = (),
        remove_answer: Sequence[bytes] = (),
    ) -> None:
        self._add = tuple(edit for edit in add if edit.name not in _AUTHORITY)
        self._authority = tuple(edit for edit in add if edit.name in _AUTHORITY)
        self._remove = frozenset(name.lower() for name in remove)
        self._add_answer = tuple(add_answer)
        self._remove_answer = frozenset(name.lower() for name in remove_answer)
        self.changes_request = bool(add or remove)
        self.changes_answer = bool(self._add_answer or self._remove_answer)

    def request(self, headers: Headers, exchange: Exchange) -> Headers:
        """What goes to the upstream. `host` is no header here: it is the exchange's authority."""
        for edit in self._authority:
            exchange.authority = edit.value if isinstance(edit.value, bytes) else edit.value(exchange)
        return _edit(headers, self._remove, self._add, exchange)

    def answer(self, headers: Headers, exchange: Exchange) -> Headers:
        """What goes to the client."""
        return _edit(headers, self._remove_answer, self._add_answer, exchange)


_AUTHORITY = (b"host", b":authority")


def _edit(
    headers: Headers, remove: frozenset[bytes], add: Sequence[HeaderEdit], exchange: Exchange
) -> Headers:
    if remove:
        headers = [pair for pair in headers if pair[0] not in remove]
    for edit in add:
        headers = edit.apply(headers, exchange)
    return headers


class FormatError(ValueError):
    """A command in a header value that this proxy does not know."""


_COMMAND = re.compile(r"%(?:%|([A-Z0-9_]+)(?:\(([^)]*)\))?%)")


def compile_value(text: str) -> bytes | Value:
    """A header value in Envoy's format (`%COMMAND%`, `%%` for a percent sign). Raises FormatError."""
    parts: list[bytes | Value] = []
    end = 0
    for found in _COMMAND.finditer(text):
        parts.append(text[end : found.start()].encode())
        parts.append(_command(found.group(1), found.group(2)) if found.group(1) else b"%")
        end = found.end()
    parts.append(text[end:].encode())
    if "%" in _COMMAND.sub("", text):
        raise FormatError(f"header value {text!r}: a lone % (write %%)")
    if all(isinstance(part, bytes) for part in parts):
        return b"".join(part for part in parts if isinstance(part, bytes))
    return lambda exchange: b"".join(part if isinstance(part, bytes) else part(exchange) for part in parts)


def _command(name: str, argument: str | None) -> Value:
    if name == "REQ" and argument:
        header = argument.partition("?")[0].lower().encode()
        return lambda exchange: exchange.header(header) or b"-"
    if name not in _COMMANDS:
        raise FormatError(f"header value: command %{name}% is not supported")
    return _COMMANDS[name]


_COMMANDS: dict[str, Value] = {
    "DOWNSTREAM_REMOTE_ADDRESS": lambda x: "{}:{}".format(*x.conn.remote[:2]).encode(),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda x: x.conn.remote[0].encode(),
    "DOWNSTREAM_LOCAL_ADDRESS": lambda x: "{}:{}".format(*x.conn.local[:2]).encode(),
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": lambda x: x.conn.local[0].encode(),
    "DOWNSTREAM_LOCAL_PORT": lambda x: b"%d" % x.conn.local[1],
    "PROTOCOL": lambda x: b"HTTP/1.1" if x.http11 else b"HTTP/1.0",
    "START_TIME": lambda x: b"%.3f" % x.began_at,
    "DOWNSTREAM_PEER_URI_SAN": lambda x: x.conn.peer.uri.encode() if x.conn.peer else b"-",
    "UPSTREAM_HOST": lambda x: "{}:{}".format(*x.endpoint.address).encode() if x.endpoint else b"-",
    "UPSTREAM_CLUSTER": lambda x: x.cluster.name.encode() if x.cluster else b"-",
    "RESPONSE_CODE": lambda x: b"%d" % x.code,
    "RESPONSE_FLAGS": lambda x: x.flags.encode() or b"-",
}
