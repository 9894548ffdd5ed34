"""Our gRPC client against a real gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.proxy import rpc
from mesh.proxy.rpc import Call, RpcError


async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def greet(request: bytes, context: Any) -> bytes:
    who = dict(context.invocation_metadata()).get("x-who", "nobody")
    return request + str(who).encode()


async def refuse(request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you, 100 % sure: ñ")
    return b""


class Methods(grpc.GenericRpcHandler):
    def service(self, details: Any) -> Any:
        return {
            "/t/Echo": grpc.stream_stream_rpc_method_handler(echo),
            "/t/Greet": grpc.unary_unary_rpc_method_handler(greet),
            "/t/Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        }.get(details.method)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    )
    server.add_generic_rpc_handlers((Methods(),))
    number = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield number
    await server.stop(None)


async def test_one_question_one_answer(port: int) -> None:
    async with await rpc.connect("127.0.0.1", port) as channel:
        assert await channel.call("/t/Greet", [("x-who", "jason")]).ask(b"hello ") == b"hello jason"
        assert await channel.call("/t/Greet").ask(b"hello ") == b"hello nobody"


async def test_messages_larger_than_any_window_pass_both_ways(port: int) -> None:
    async with await rpc.connect("127.0.0.1", port) as channel:
        call = channel.call("/t/Echo")
        for size in (0, 1, 16_384, 70_000, 5_000_000):
            message = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            writing = asyncio.create_task(call.write(message))
            assert await call.read() == message
            await writing
        await call.done_writing()
        assert await call.read() is None
        assert call.over


@pytest.mark.parametrize(
    ("method", "code", "details"),
    [
        ("/t/Refuse", "PERMISSION_DENIED", "not you, 100 % sure: ñ"),
        ("/t/Nothing", "UNIMPLEMENTED", "Method not found!"),
    ],
)
async def test_a_refusal_has_the_servers_code_and_sentence(
    port: int, method: str, code: str, details: str
) -> None:
    async with await rpc.connect("127.0.0.1", port) as channel:
        with pytest.raises(RpcError) as refused:
            await channel.call(method).ask(b"")
        assert (refused.value.code, refused.value.details) == (code, details)


async def test_a_server_that_goes_away_ends_the_call() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Methods(),))
    number = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = await rpc.connect("127.0.0.1", number)
    call = channel.call("/t/Echo")
    await call.write(b"there?")
    assert await call.read() == b"there?"
    await server.stop(None)
    with pytest.raises(RpcError):
        await call.read()
    with pytest.raises(RpcError):
        channel.call("/t/Echo")
    channel.close()


async def test_who_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError):
        await rpc.connect("127.0.0.1", 1)


async def test_a_server_of_another_protocol_is_told_so() -> None:
    async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(http1, "127.0.0.1", 0)
    async with server, await rpc.connect(*server.sockets[0].getsockname()) as channel:
        with pytest.raises(RpcError, match="does not speak HTTP/2"):
            await channel.call("/t/Greet").ask(b"")


async def test_silence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "KEEPALIVE", 0.05)
    monkeypatch.setattr(rpc, "KEEPALIVE_ANSWER", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, await rpc.connect(*server.sockets[0].getsockname()) as channel:
        with pytest.raises(RpcError, match="no sign of the server"):
            await channel.call("/t/Greet").ask(b"")


@given(st.lists(st.binary(max_size=300)), st.data())
def test_messages_survive_being_cut_anywhere(messages: list[bytes], data: st.DataObject) -> None:
    call = Call(_NoChannel(), 1)  # type: ignore[arg-type]
    stream = b"".join(rpc._PREFIX.pack(False, len(m)) + m for m in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        call.data(stream[begin:end])
    assert list(call._messages) == messages


class _NoChannel:
    forget: Callable[..., None] = staticmethod(lambda number, cancel: None)
