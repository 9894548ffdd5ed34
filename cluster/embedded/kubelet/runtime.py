"""The kubelet's side of the zygote: containers as processes, and their output as log files.

Logs are written as a container runtime writes them (CRI: `<time> stdout F text`), since that is what the API
server reads for `kubectl logs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from cluster.embedded.zygote import CONTAINER_MARK

MAX_LINE = 16384
"""Longer lines are written in parts, tagged P (partial)."""


class StartError(Exception):
    """The runtime refused to start a container; the message is the runtime's."""


@dataclass(frozen=True)
class Exit:
    """How a container's first process ended; `code` is 128 + signal if a signal ended it."""

    code: int
    signal: int


@dataclass(frozen=True)
class Process:
    """A running container."""

    pid: int
    exited: asyncio.Future[Exit]


class Runtime:
    """Client of the zygote's socket. `start()` must be called in the event loop that uses it."""

    def __init__(self, orders: socket.socket) -> None:
        self._socket = orders
        self._socket.setblocking(False)
        self._sending = asyncio.Lock()
        self._next = 0
        self._spawning: dict[int, asyncio.Future[int]] = {}
        self._running: dict[int, asyncio.Future[Exit]] = {}
        self._reader = asyncio.create_task(self._read(), name="zygote")

    async def spawn(self, argv: list[str], env: dict[str, str], cwd: Path, log: Path) -> Process:
        """Fork a container whose output goes to `log`; StartError if it cannot be started."""
        log.parent.mkdir(parents=True, exist_ok=True)
        writer = LogWriter(log)
        ends = [await writer.pipe(stream) for stream in ("stdout", "stderr")]
        self._next += 1
        order = self._next
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._spawning[order] = answer
        try:
            await self._send({"spawn": order, "argv": argv, "env": env, "cwd": str(cwd)}, ends)
        finally:
            for end in ends:
                os.close(end)
        pid = await answer
        return Process(pid, self._running[pid])

    async def execute(self, argv: list[str], env: dict[str, str], cwd: Path) -> int:
        """Run a command beside a container (an exec probe, a hook) and wait for its end; its exit code.

        Its output is dropped. Cancelling kills it. StartError if it cannot be started.
        """
        own = {**env, CONTAINER_MARK: f"{env.get(CONTAINER_MARK)}/exec"}
        process = await self.spawn(argv, own, cwd, Path(os.devnull))
        try:
            return (await asyncio.shield(process.exited)).code
        except asyncio.CancelledError:
            await self.kill(process)
            raise

    async def kill(self, process: Process, number: int = signal.SIGKILL) -> None:
        """Signal a container's first process; SIGKILL reaches all its processes."""
        if not process.exited.done():
            await self._send({"kill": process.pid, "signal": int(number)}, [])

    async def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        data = json.dumps(message).encode() + b"\n"
        async with self._sending:
            sent = 0
            if descriptors:
                sent = await self._send_descriptors(data, descriptors)
            await asyncio.get_running_loop().sock_sendall(self._socket, data[sent:])

    async def _send_descriptors(self, data: bytes, descriptors: list[int]) -> int:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return socket.send_fds(self._socket, [data], descriptors)
            except BlockingIOError:  # the zygote is still importing, and its inbox is full
                writable = loop.create_future()
                loop.add_writer(self._socket, writable.set_result, None)
                try:
                    await writable
                finally:
                    loop.remove_writer(self._socket)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        pending = b""
        while data := await loop.sock_recv(self._socket, 65536):
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))

    def _hear(self, message: dict[str, Any]) -> None:
        if "exited" in message:
            exited = self._running.pop(message["exited"])
            exited.set_result(Exit(message["code"], message["signal"]))
            return
        answer = self._spawning.pop(message["spawned"])
        if "error" in message:
            answer.set_exception(StartError(message["error"]))
            return
        self._running[message["pid"]] = asyncio.get_running_loop().create_future()
        answer.set_result(message["pid"])


class LogWriter:
    """One container run's log file, fed by two pipes; closed when both have ended."""

    def __init__(self, path: Path) -> None:
        self._file: FileIO = path.open("ab", buffering=0)
        self._open = 0

    async def pipe(self, stream: str) -> int:
        """The write end of a pipe whose lines go to the file, marked as `stream`."""
        read_end, write_end = os.pipe()
        loop = asyncio.get_running_loop()
        self._open += 1
        await loop.connect_read_pipe(lambda: _Lines(self, stream), os.fdopen(read_end, "rb", buffering=0))
        return write_end

    def write(self, stream: str, tag: str, line: bytes) -> None:
        """One line, stamped with the time."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        with contextlib.suppress(OSError):  # the disk is full: losing a log must not stop the kubelet
            self._file.write(f"{stamp} {stream} {tag} ".encode() + line + b"\n")

    def ended(self) -> None:
        """A pipe has ended."""
        self._open -= 1
        if self._open == 0:
            self._file.close()


class _Lines(asyncio.Protocol):
    """Cuts a stream into lines."""

    def __init__(self, writer: LogWriter, stream: str) -> None:
        self._writer = writer
        self._stream = stream
        self._pending = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            self._writer.write(self._stream, "F", line)
        while len(self._pending) > MAX_LINE:
            self._writer.write(self._stream, "P", self._pending[:MAX_LINE])
            self._pending = self._pending[MAX_LINE:]

    def connection_lost(self, error: Exception | None) -> None:
        if self._pending:
            self._writer.write(self._stream, "F", self._pending)
        self._writer.ended()
