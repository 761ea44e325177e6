"""Files that a command reads: plain or gzipped, or stdin."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from shared.errors import UsageError

GZIP_MAGIC = b"\x1f\x8b"


def open_bytes(name: str) -> BinaryIO:
    """A file, or stdin for ``-``; what is gzipped is unpacked, whatever its name says.

    Raises UsageError if there is no such file or it must not be read.
    """
    try:
        # For stdin a reader of our own: a thread that still waits in sys.stdin's would spoil the exit.
        source = sys.stdin.fileno() if name == "-" else Path(name)
        raw = open(source, "rb", closefd=name != "-")  # noqa: SIM115
        zipped = raw.peek(2)[:2] == GZIP_MAGIC
    except OSError as error:
        why = (error.strerror or "cannot be opened").lower()
        raise UsageError(f"{name}: {why}; give the path of a readable file") from None
    if not zipped:
        return cast("BinaryIO", raw)
    file = gzip.GzipFile(fileobj=raw)
    # What GzipFile does for a file it has opened itself: closing the one closes the other.
    file.myfileobj = cast("Any", raw)
    return cast("BinaryIO", file)


def open_text(name: str) -> IO[str]:
    """The same as UTF-8 text, with line ends left as they are for the CSV reader."""
    return io.TextIOWrapper(open_bytes(name), encoding="utf-8-sig", newline="")


def size_of(name: str) -> int | None:
    """How many bytes a file has on disk; None where nobody knows yet (stdin, a pipe)."""
    path = Path(name)
    return path.stat().st_size if name != "-" and path.is_file() else None


def position(file: BinaryIO) -> int:
    """How far the file on disk has been read, also below gzip; 0 where there is no position."""
    raw = file.fileobj if isinstance(file, gzip.GzipFile) else file
    try:
        return int(raw.tell()) if raw is not None else 0
    except OSError:
        return 0
