"""An app in a pod that knows nothing of a mesh: HTTP on some ports, and on others a server that speaks first.

`python -m tests.support.pod_app http=9080,7777 greet=3306`
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.echo import EchoServer


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("peername")[0]
    writer.write(f"220 welcome {peer}\n".encode())
    await writer.drain()
    await reader.read(100)
    writer.close()


async def main() -> None:
    for argument in sys.argv[1:]:
        kind, _, ports = argument.partition("=")
        for port in map(int, ports.split(",")):
            if kind == "http":
                await EchoServer(f"app-{port}").start("0.0.0.0", port)
            else:
                await asyncio.start_server(greet, "0.0.0.0", port)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
