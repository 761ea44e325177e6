"""Bytes of a file as whole lines, read in a thread of its own with bounded memory."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, cast

from shared.cli.files import position
from shared.errors import UsageError

CHUNK_BYTES = 1024 * 1024
CHUNKS_AHEAD_MAX = 4
LINE_BYTES_MAX = 8 * 1024 * 1024
IDLE_SECONDS = 0.05

Item = tuple[bytes, int] | Exception | None


class Chunks:
    """Yields lists of lines as they come; an empty list says that nothing has come for a moment.

    That moment is when a caller should send what it holds: stdin may be a tail that never ends.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.position = 0
        self._file = file
        self._name = name
        self._queue: asyncio.Queue[Item] = asyncio.Queue()
        self._room = threading.Semaphore(CHUNKS_AHEAD_MAX)
        self._stopped = False

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        loop = asyncio.get_running_loop()
        # A daemon: a read that waits on a terminal must not keep the command from ending.
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        try:
            async for lines in self._lines():
                yield lines
        finally:
            self._stopped = True
            self._room.release()

    async def _lines(self) -> AsyncIterator[list[bytes]]:
        rest = b""
        count = 0
        while True:
            try:
                item = await asyncio.wait_for(self._queue.get(), IDLE_SECONDS)
            except TimeoutError:
                yield []
                continue
            self._room.release()
            if isinstance(item, Exception):
                raise UsageError(f"{self._name}, after line {count}: cannot be read: {item}")
            if item is None:
                break
            chunk, self.position = item
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if len(rest) > LINE_BYTES_MAX:
                raise UsageError(
                    f"{self._name}, line {count + len(lines) + 1}: is longer than"
                    f" {LINE_BYTES_MAX:,} bytes; one event a line is expected"
                )
            count += len(lines)
            if lines:
                yield lines
        if rest:
            yield [rest]

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        # What BufferedReader and GzipFile offer and BinaryIO does not name: whatever is there, now.
        read1 = cast("Callable[[int], bytes]", getattr(self._file, "read1"))  # noqa: B009
        item: Item = None
        try:
            while chunk := read1(CHUNK_BYTES):
                if not self._put(loop, (chunk, position(self._file))):
                    return
        except (OSError, EOFError, ValueError, zlib.error) as error:
            item = error
        self._put(loop, item)

    def _put(self, loop: asyncio.AbstractEventLoop, item: Item) -> bool:
        """Hand an item over when there is room; False if nobody wants it any more."""
        self._room.acquire()
        if self._stopped:
            return False
        try:
            loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:
            # The loop has ended before the file did.
            return False
        return True
