"""Starting and ending the supervising process: one per folder, however the last one ended."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import UsageError
from shared.stack import processes
from shared.stack.files import read_json, write_json
from shared.stack.layout import DEFAULT_PORT_BASE, Layout, Ports, checkout
from shared.stack.local import Plan
from shared.stack.postgres import drafts
from shared.stack.processes import MARKER, NAME, Found
from shared.stack.supervisor import recorded

SUPERVISOR = "supervisor"
STOP_SECONDS_MAX = 30.0
COLLECT_SECONDS_MAX = 3.0
POLL_SECONDS = 0.05


@contextmanager
def locked(layout: Layout) -> Iterator[int | None]:
    """The stack's lock as an open file, or None if someone holds it.

    Its supervisor inherits the file and so holds the lock until it ends, in whatever way.
    """
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def running(layout: Layout) -> list[Found]:
    """Every living process of the stack."""
    state = read_json(layout.state_json) or {}
    supervisor = {"name": SUPERVISOR, **state.get("supervisor", {})}
    return processes.find(layout.dir, recorded([supervisor, *state.get("processes", [])]))


def settle_plan(
    layout: Layout, port_base: int | None, program: Path | None, *, workers: bool
) -> Plan:
    """What to run: as told now, else as told the last time, else the default. Remembers it.

    The program file is copied, so that later edits take effect when they are given, not by chance.
    """
    known = read_json(layout.settings_json) or {}
    base = int(known.get("port_base", DEFAULT_PORT_BASE)) if port_base is None else port_base
    ports = Ports(base)
    if program is not None:
        shutil.copyfile(program, layout.program)
    chosen = layout.program if layout.program.exists() else default_program()
    write_json(
        layout.settings_json,
        {"port_base": base, "program": str(program or known.get("program") or chosen)},
    )
    return Plan(layout, ports, chosen, workers)


def default_program() -> Path:
    """The program that runs when none is named."""
    path = checkout() / "programs" / "demo.yaml"
    if not path.is_file():
        raise UsageError("there is no programs/demo.yaml here: name a program file with --program")
    return path


def taken_ports(plan: Plan) -> list[str]:
    """Each port of the plan that someone else listens on, with who it is if we may know."""
    taken = []
    for name, port in plan.ports.named(workers=plan.workers).items():
        if not processes.is_free(port):
            who = processes.holder(port)
            taken.append(f"port {port} ({name}) is taken" + (f" by {who}" if who else ""))
    return taken


def launch(plan: Plan, lock: int, *, foreground: bool) -> subprocess.Popen[bytes]:
    """Start the supervisor in a session of its own; it tells its progress on its stdout."""
    options = ["--port-base", str(plan.ports.base), "--program", str(plan.program)]
    options += ["--no-workers"] if not plan.workers else []
    options += ["--foreground"] if foreground else []
    with plan.layout.log(SUPERVISOR).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "shared.stack", str(plan.layout.dir), *options],
            cwd=plan.layout.run,
            env={**os.environ, MARKER: str(plan.layout.dir), NAME: SUPERVISOR},
            stdin=subprocess.PIPE if foreground else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
        )


def stop(layout: Layout) -> list[Found]:
    """End everything of the stack, also what a killed supervisor left. Returns what even so lives."""
    for one in running(layout):
        if one.name == SUPERVISOR:
            processes.send(one.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while True:
        with locked(layout) as lock:
            if lock is not None:
                return _clear(layout)
        if time.monotonic() > deadline:
            stuck = [one for one in running(layout) if one.name == SUPERVISOR]
            processes.end(stuck, signal.SIGKILL, 0.0)
            deadline = time.monotonic() + STOP_SECONDS_MAX
        time.sleep(POLL_SECONDS)


def _clear(layout: Layout) -> list[Found]:
    found = running(layout)
    left = processes.sweep(layout.dir, found)
    processes.wait_gone(found, COLLECT_SECONDS_MAX)
    layout.stack_json.unlink(missing_ok=True)
    return left


def clear_leftovers(layout: Layout) -> int:
    """End what an earlier, killed supervisor left behind; how many processes that was."""
    found = running(layout)
    if found:
        left = _clear(layout)
        if left:
            told = ", ".join(f"{one.name} (pid {one.pid})" for one in left)
            raise UsageError(f"these processes of an earlier start cannot be ended: {told}")
    return len(found)


def wipe(layout: Layout) -> None:
    """Remove the stack's data: what we made and nothing else, whatever folder we were given."""
    draft, password = drafts(layout.postgres)
    folders = (layout.kafka, layout.postgres, draft, layout.config, layout.logs, layout.run)
    for path in (*folders, layout.versions):
        shutil.rmtree(path, ignore_errors=True)
    for path in (
        *(layout.stack_json, layout.state_json, layout.settings_json, layout.credentials_json),
        *(layout.keys_json, layout.secret, layout.program, layout.lock, password),
    ):
        path.unlink(missing_ok=True)
    if layout.dir.is_dir() and not any(layout.dir.iterdir()):
        layout.dir.rmdir()
