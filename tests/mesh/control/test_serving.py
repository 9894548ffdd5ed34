"""The control plane's own certificate: fresh in the next handshake, while old connections stay."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime, timedelta

from mesh.ca.root import new_root
from mesh.control.serving import ServingCertificate, server_names

ROOT = new_root("cluster.local", datetime.now(UTC))


async def test_a_renewed_certificate_is_served_and_old_connections_stay() -> None:
    certificate = ServingCertificate(ROOT, server_names("mesh-system"), timedelta(seconds=2))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificate.context)
    port = server.sockets[0].getsockname()[1]
    trust = ssl.create_default_context(cadata=ROOT.certificate_pem)

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        name = "mesh-control.mesh-system.svc"
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=name)
        return reader, writer, writer.get_extra_info("ssl_object").getpeercert(True)

    old_reader, old_writer, first = await connect()
    renewing = asyncio.ensure_future(certificate.run())
    while True:
        _, writer, latest = await connect()
        writer.close()
        if latest != first:
            break
        await asyncio.sleep(0.02)
    old_writer.write(b"still here\n")
    assert await old_reader.readline() == b"still here\n"
    renewing.cancel()
    old_writer.close()
    server.close()
    with contextlib.suppress(asyncio.CancelledError):
        await renewing
