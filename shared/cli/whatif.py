"""Replays recorded events under a program, on databases made for it: the services' own code, nobody's data.

Each program has its own three services, as processes that are fed through pipes; what one publishes is handed to
the others until nothing moves any more. So whatever rules there are is decided as it is in earnest.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import asyncpg
import msgspec

from shared.contracts.catalogue import CONSUMES, DEAD_LETTERS
from shared.db.pool import CONNECT_SECONDS_MAX
from shared.db.roles import with_database
from shared.errors import TreueError, UsageError
from shared.events.model import Record
from shared.events.replay import LENGTH_BYTES, Ask, Reply, frame

PREFIX = "treue_whatif_"
FEW_LINES = 5
_reply = msgspec.msgpack.Decoder(Reply)

Message = tuple[str, bytes, bytes]


class Rules(NamedTuple):
    """A program file, and the folder of its later versions where it has one."""

    file: Path
    versions: Path | None = None


class Process:
    """A service that answers frames."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self.name = name
        self._process = process
        self._errors = errors
        self._offsets: dict[str, int] = defaultdict(int)

    async def ask(self, asked: Ask) -> list[Message]:
        """Have records applied; all that was published in doing so."""
        reply = await self.exchange(asked)
        messages = reply.messages
        while reply.more:
            reply = await self.exchange(Ask(asked.now, []))
            messages += reply.messages
        return messages

    async def exchange(self, asked: Ask) -> Reply:
        """Have records applied; what was published in doing so, as much of it as one reply takes."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - both are pipes
        assert stdout is not None  # noqa: S101
        try:
            stdin.write(frame(asked))
            await stdin.drain()
            head = await stdout.readexactly(LENGTH_BYTES)
            data = await stdout.readexactly(int.from_bytes(head, "little"))
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            raise TreueError(f"{self.name} gave up: {self.last_words()}") from None
        return _reply.decode(data)

    async def hand(self, messages: Sequence[Message], now: datetime) -> list[Message]:
        """Hand over what another service published."""
        records: list[Any] = []
        for topic, key, payload in messages:
            records.append((topic, 0, self._offsets[topic], key, payload, [], 0))
            self._offsets[topic] += 1
        return await self.ask(Ask(now, records))

    async def close(self) -> None:
        """End it: no more frames will come."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()

    def last_words(self) -> str:
        """The end of what it said on its error output."""
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        return " / ".join(text.strip().splitlines()[-FEW_LINES:])


class Side:
    """The services under one program; ``dsns`` is where each has its database."""

    def __init__(
        self, dsns: Mapping[str, str], services: Mapping[str, Process], now: datetime
    ) -> None:
        self.dsns = dsns
        self.dead_letters = 0
        self._services = services
        self._now = now

    async def apply(self, records: Sequence[Record]) -> None:
        """Apply recorded events, and all that follows from them."""
        plain = [
            (r.topic, r.partition, r.offset, r.key, r.value, list(r.headers), r.timestamp)
            for r in records
        ]
        await self._settle(await self._services["points"].ask(Ask(self._now, plain)))

    async def finish(self) -> None:
        """Let time pass: levels that have run out by now are judged."""
        await self._settle(await self._services["tiers"].ask(Ask(self._now, [], job=True)))

    async def _settle(self, messages: list[Message]) -> None:
        while messages:
            self.dead_letters += sum(topic == DEAD_LETTERS for topic, _, _ in messages)
            told: list[Message] = []
            for name, process in self._services.items():
                mine = [m for m in messages if m[0] in CONSUMES[name]]
                if mine:
                    told += await process.hand(mine, self._now)
            messages = told


@asynccontextmanager
async def sides(
    admin: str, programs: Sequence[Rules], now: datetime
) -> AsyncIterator[Sequence[Side]]:
    """A side for each program; ``admin`` is the address of a role that may make databases."""
    async with AsyncExitStack() as stack:
        try:
            conn = await asyncpg.connect(admin, timeout=CONNECT_SECONDS_MAX)
        except (OSError, asyncpg.PostgresError) as error:
            raise UsageError(f"the database for the replay cannot be reached: {error}") from None
        stack.push_async_callback(conn.close)
        found = []
        for program in programs:
            dsns = {
                name: await stack.enter_async_context(_scratch(conn, admin, name))
                for name in CONSUMES
            }
            services = {
                name: await stack.enter_async_context(_running(name, dsns[name], program))
                for name in CONSUMES
            }
            found.append(Side(dsns, services, now))
        yield found


@asynccontextmanager
async def _scratch(
    conn: asyncpg.Connection[asyncpg.Record], admin: str, service: str
) -> AsyncIterator[str]:
    """A database for the length of this context; losing it in a crash of the server would be no loss."""
    name = f"{PREFIX}{service}_{secrets.token_hex(6)}"
    await conn.execute(f"CREATE DATABASE {name}")
    try:
        await conn.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        yield with_database(admin, name)
    finally:
        await conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@asynccontextmanager
async def _running(service: str, dsn: str, program: Rules) -> AsyncIterator[Process]:
    # A file and no pipe: nobody reads what is logged, unless the process gives up.
    with TemporaryFile() as errors:
        migration = await _start(service, "migrate", dsn, program, errors)
        process = Process(service, migration, errors)
        await process.close()
        if migration.returncode:
            raise TreueError(f"{service} migrate: {process.last_words()}")
        process = Process(service, await _start(service, "replay", dsn, program, errors), errors)
        try:
            yield process
        finally:
            await process.close()


async def _start(
    service: str, role: str, dsn: str, program: Rules, errors: IO[bytes]
) -> asyncio.subprocess.Process:
    settings = {
        "DATABASE": dsn,
        # It talks to no broker and listens on no port: only its settings want to know.
        "KAFKA": "127.0.0.1:1",
        "PORT": "1",
        "WORKER_PORT": "1",
        "PROGRAM": str(program.file),
        "LOG_LEVEL": "ERROR",
    }
    if service == "rewards":
        # Nobody will ever see these vouchers' codes.
        settings["SECRET"] = secrets.token_hex(32)
    if program.versions is not None:
        settings["PROGRAM_VERSIONS"] = str(program.versions)
    named = {f"TREUE_{service.upper()}_{name}": value for name, value in settings.items()}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{service}", role),
        env={**os.environ, **named},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
    )
