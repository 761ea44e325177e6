"""Is a Kafka broker there? One small request, cheap enough to ask every second."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct

API_VERSIONS = 18
CLIENT_ID = b"treue-readyz"


async def broker(bootstrap: str) -> None:
    """Raises ConnectionError unless a broker of ``host:port,…`` answers; an open port alone is not enough."""
    for item in bootstrap.split(","):
        host, _, port = item.strip().rpartition(":")
        with contextlib.suppress(OSError, EOFError):
            await _greet(host.strip("[]"), int(port))
            return
    raise ConnectionError(f"no Kafka broker answers at {bootstrap}")


async def _greet(host: str, port: int) -> None:
    """Ask a broker for its API versions: the one request that needs no session."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        correlation = secrets.randbits(31)
        header = struct.pack(">hhih", API_VERSIONS, 0, correlation, len(CLIENT_ID)) + CLIENT_ID
        writer.write(struct.pack(">i", len(header)) + header)
        _, answered = struct.unpack(">ii", await reader.readexactly(8))
        if answered != correlation:
            raise ConnectionError("what listens there is not a Kafka broker")
    finally:
        writer.close()
