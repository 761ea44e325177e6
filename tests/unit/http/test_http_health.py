"""Readiness: bounded in time, shared by all who ask, and silent about addresses."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shared.http import checks, health
from shared.http.health import NotReady, Readiness

API_VERSIONS = 18
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def fine() -> None:
    return


async def away() -> None:
    raise NotReady("no broker answers")


async def broken() -> None:
    raise RuntimeError("postgresql://treue:secret@host/db")


async def hangs() -> None:
    await asyncio.sleep(60)


async def test_ready_when_every_component_is() -> None:
    ready, report = await Readiness({"postgres": fine, "kafka": fine}).report()
    assert ready
    assert report == {
        "status": "ready",
        "components": {"postgres": {"status": "ok"}, "kafka": {"status": "ok"}},
    }


async def test_what_is_away_is_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
    ready, report = await Readiness({"a": fine, "b": away, "c": broken, "d": hangs}).report()
    assert not ready
    assert report["components"] == {
        "a": {"status": "ok"},
        "b": {"status": "down", "detail": "no broker answers"},
        "c": {"status": "down", "detail": "RuntimeError"},
        "d": {"status": "down", "detail": "no answer within 0.05 s"},
    }


async def test_many_askers_cost_one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def counted() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)

    readiness = Readiness({"counted": counted})
    await asyncio.gather(*(readiness.report() for _ in range(20)))
    assert asked == 1
    monkeypatch.setattr(health, "CACHE_SECONDS", 0.0)
    fresh = Readiness({"counted": counted})
    await fresh.report()
    await fresh.report()
    assert asked == 3


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def as_broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    request = await reader.readexactly(size)
    key, version, correlation = struct.unpack(">hhi", request[:8])
    assert (key, version) == (API_VERSIONS, 0)
    writer.write(struct.pack(">iih", 6, correlation, 0))
    await writer.drain()
    writer.close()


async def as_web_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_a_broker_is_recognised_by_its_answer() -> None:
    async with listening(as_broker) as broker:
        await checks.kafka(broker)()
        await checks.kafka(f"127.0.0.1:1, {broker}")()


@pytest.mark.parametrize("serve", [as_web_server, hangs_up])
async def test_what_is_no_broker_is_none(serve: Serve) -> None:
    async with listening(serve) as other:
        with pytest.raises(NotReady):
            await checks.kafka(other)()
    with pytest.raises(NotReady):
        await checks.kafka("127.0.0.1:1")()
