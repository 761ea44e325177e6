"""The supervising process behind ``treue up``; the command line starts it and listens to its pipe."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from shared import clock
from shared.errors import UsageError
from shared.stack.layout import Layout, Ports
from shared.stack.local import LocalStack, Plan


class Pipe:
    """Events to whoever started us, one JSON a line. A reader that left or sleeps is no hindrance."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    def tell(self, event: str, **particulars: object) -> None:
        """Send, if there is someone to hear; the log hears it anyway."""
        line = json.dumps({"event": event, **particulars})
        sys.stderr.write(f"{clock.now().isoformat()} {line}\n")
        with suppress(BrokenPipeError, BlockingIOError):
            os.write(self._descriptor, line.encode() + b"\n")


def _plan() -> tuple[Plan, bool]:
    parser = argparse.ArgumentParser(prog="python -m shared.stack")
    parser.add_argument("dir", type=Path)
    parser.add_argument("--port-base", type=int, required=True)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--no-workers", action="store_true")
    parser.add_argument("--foreground", action="store_true", help="stop when stdin ends")
    given = parser.parse_args()
    plan = Plan(Layout(given.dir), Ports(given.port_base), given.program, not given.no_workers)
    return plan, given.foreground


async def supervise(plan: Plan, pipe: Pipe, *, foreground: bool) -> int:
    """Bring the stack up and keep it until a signal; the exit code says whether it ever was ready."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if foreground:
        loop.add_reader(sys.stdin.fileno(), _starter_left, stop)
    stack = LocalStack(plan, pipe.tell)
    starting = asyncio.create_task(stack.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if starting.done() and (error := starting.exception()) is not None:
        known = isinstance(error, (UsageError, OSError))
        pipe.tell("failed", message=str(error) if known else repr(error))
        code = 1
    else:
        await stopping
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    pipe.tell("stopping")
    await stack.stop()
    pipe.tell("stopped")
    return code


def _starter_left(stop: asyncio.Event) -> None:
    """Standard input is a pipe nobody writes to: that it is readable means its other end is gone."""
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    stop.set()


def main() -> int:
    """Supervise until told to stop."""
    plan, foreground = _plan()
    return asyncio.run(supervise(plan, Pipe(sys.stdout.fileno()), foreground=foreground))


if __name__ == "__main__":
    sys.exit(main())
