"""Keeps processes alive: a dead one is started again, with growing pauses, and the fact is recorded."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared import clock
from shared.errors import UsageError
from shared.stack import processes
from shared.stack.processes import Found, NotReady, Spec

POLL_SECONDS = 0.05
PROBE_SECONDS = 0.1
EARLY_EXITS_MAX = 3
PROBES_AT_ONCE = 12


@dataclass(frozen=True, slots=True)
class BackOff:
    """Pauses between restarts: doubled each time, forgotten after a healthy stretch."""

    first_seconds: float = 0.2
    last_seconds: float = 10.0
    healthy_seconds: float = 30.0

    def after(self, pause: float | None, lived_seconds: float) -> float:
        """The next pause, given the one before (None = there was none)."""
        if pause is None or lived_seconds >= self.healthy_seconds:
            return self.first_seconds
        return min(pause * 2, self.last_seconds)


Result = TypeVar("Result")
# What a supervisor has to tell: the kind of event and its particulars.
Tell = Callable[..., None]


class Child:
    """One supervised process, over all its lives."""

    def __init__(self, spec: Spec, supervisor: Supervisor) -> None:
        self.spec = spec
        self.state = "starting"
        self.pid: int | None = None
        self.started: float | None = None
        self.restarts = 0
        self.last_exit: dict[str, Any] | None = None
        self.ready_once = False
        self._supervisor = supervisor
        self._stop = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._task = asyncio.create_task(self._live(), name=spec.name)

    def record(self) -> dict[str, Any]:
        """What `status` shows and `down` goes by."""
        return {
            "name": self.spec.name,
            "state": self.state,
            "pid": self.pid,
            "started": self.started,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
            "log": str(self.spec.log),
        }

    async def stop(self) -> None:
        """End it for good; killed if it does not go in time."""
        self._stop.set()
        await self._task

    async def _live(self) -> None:
        pause: float | None = None
        while not self._stop.is_set():
            begun = time.monotonic()
            code = await self._one_life()
            self.pid = self.started = None
            if self._stop.is_set():
                break
            pause = self._supervisor.back_off.after(pause, time.monotonic() - begun)
            self.restarts += 1
            self.last_exit = {"code": code, "at": clock.now().isoformat()}
            self._set("waiting")
            self._supervisor.tell("exit", name=self.spec.name, code=code, pause=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
        self._set("stopped")

    async def _one_life(self) -> int | str:
        """Start, wait for the end (or bring it about), and say how it ended."""
        supervisor = self._supervisor
        try:
            process = await supervisor.thread(processes.spawn, self.spec, supervisor.dir)
        except (OSError, UsageError) as error:
            return str(error)
        self.pid, self.started = process.pid, processes.started(process.pid)
        self._set("starting")
        probing = asyncio.create_task(self._probe())
        try:
            await _until(lambda: process.poll() is not None or self._stop.is_set())
            if process.poll() is None:
                await self._end(process)
            return process.wait()
        finally:
            probing.cancel()

    async def _probe(self) -> None:
        while not await self._supervisor.thread(self.spec.ready):  # noqa: ASYNC110 - as in _until
            await asyncio.sleep(PROBE_SECONDS)
        self.ready_once = True
        self._set("ready")

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._set("stopping")
        process.send_signal(self.spec.stop_signal)
        await _until(lambda: process.poll() is not None, self.spec.stop_seconds)
        if process.poll() is None:
            self._supervisor.tell("killed", name=self.spec.name, after=self.spec.stop_seconds)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _set(self, state: str) -> None:
        self.state = state
        self._supervisor.changed()


class Supervisor:
    """All children of one stack. ``changed`` is called whenever one of their records differs."""

    def __init__(
        self,
        stack_dir: Path,
        tell: Tell,
        changed: Callable[[], None] = lambda: None,
        back_off: BackOff | None = None,
    ) -> None:
        self.dir = stack_dir
        self.tell = tell
        self.changed = changed
        self.back_off = back_off or BackOff()
        self.children: dict[str, Child] = {}
        # Probes may hang until their time limit: they must not keep each other waiting.
        self._threads = ThreadPoolExecutor(PROBES_AT_ONCE)

    async def thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a blocking function beside the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def start(self, spec: Spec) -> Child:
        """Start a process and keep it alive from now on."""
        child = Child(spec, self)
        self.children[spec.name] = child
        return child

    async def until_ready(self, child: Child, seconds: float) -> None:
        """Wait for its first readiness; a process that keeps dying before that is given up."""
        deadline = time.monotonic() + seconds
        while not child.ready_once:
            if child.restarts >= EARLY_EXITS_MAX and child.last_exit:
                raise NotReady(child.spec.name, ending(child.last_exit["code"]), child.spec.log)
            if time.monotonic() > deadline:
                raise NotReady(child.spec.name, f"is not ready after {seconds:g} s", child.spec.log)
            await asyncio.sleep(POLL_SECONDS)

    async def once(self, spec: Spec, seconds: float) -> None:
        """Run a process that is meant to end, and well."""
        process = await self.thread(processes.spawn, spec, self.dir)
        deadline = time.monotonic() + seconds
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise NotReady(spec.name, f"did not end within {seconds:g} s", spec.log)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            raise NotReady(spec.name, ending(process.returncode), spec.log)

    async def stop(self, names: Iterable[str]) -> None:
        """Stop these, all at once, as far as they were started."""
        await asyncio.gather(
            *(self.children[name].stop() for name in names if name in self.children)
        )

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def records(self) -> list[dict[str, Any]]:
        """Every child's record, in the order of their start."""
        return [child.record() for child in self.children.values()]


async def _until(condition: Callable[[], bool], seconds: float = math.inf) -> None:
    """Wait for it, at most so long: the end of a process is no event that a loop could await."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)


def recorded(records: Iterable[dict[str, Any]]) -> list[Found]:
    """The processes a state file names, for :func:`shared.stack.processes.find`."""
    return [
        Found(one["pid"], one["name"], one["started"])
        for one in records
        if one.get("pid") and one.get("started")
    ]


def ending(code: int | str) -> str:
    """How a process ended, in words."""
    if isinstance(code, str):
        return f"cannot be started: {code}"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
