"""Operating-system processes: start one, recognise ours, end them, name who holds a port."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from shared.errors import UsageError
from shared.stack.accounts import Account
from shared.stack.files import tail
from shared.stack.layout import HOST

# Every process of a stack carries these: its folder tells whose it is, its name which one.
MARKER = "TREUE_STACK_DIR"
NAME = "TREUE_STACK_NAME"
POSTGRES_CHILD = "postgres-child"
FREE_PORT_MIN, FREE_PORT_MAX = 10000, 30000
LAST_LINES_MAX = 5
LINE_LENGTH_MAX = 500
LOG_BYTES_MAX = 8 * 1024 * 1024
POLL_SECONDS = 0.05
# A start time is read in clock ticks from a boot time that clock corrections move a little.
START_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """How one process is started, asked whether it is ready, and stopped."""

    name: str
    argv: tuple[str, ...]
    log: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 5.0
    before_start: Callable[[], None] = lambda: None
    ready: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Found:
    """A living process of a stack. The start time tells it from a later one of the same number."""

    pid: int
    name: str
    started: float


def spawn(spec: Spec, stack_dir: Path) -> subprocess.Popen[bytes]:
    """Start the process in a session of its own, with the stack's marker, output to its log."""
    spec.before_start()
    _rotate(spec.log)
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **spec.env}
    env |= {MARKER: str(stack_dir), NAME: spec.name}
    argv = spec.argv if spec.account is None else spec.account.wrap(spec.argv)
    with spec.log.open("ab") as log:
        return subprocess.Popen(
            argv,
            cwd=spec.cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_name(log.name + ".1"))


def started(pid: int) -> float | None:
    """When the process began (seconds since 1970); None if it is gone or a mere zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time())
    except psutil.Error:
        return None


def is_alive(pid: int, since: float) -> bool:
    """Whether the process of that number is still the one that began then."""
    begun = started(pid)
    return begun is not None and abs(begun - since) <= START_TOLERANCE_SECONDS


def find(stack_dir: Path, recorded: Iterable[Found] = ()) -> list[Found]:
    """Every living process of the stack: by marker, by record, or at home in its database."""
    known = {one.pid: one for one in recorded if is_alive(one.pid, one.started)}
    for process in psutil.process_iter():
        name = _name_in(process, stack_dir)
        begun = started(process.pid) if name and process.pid != os.getpid() else None
        if name and begun is not None:
            known.setdefault(process.pid, Found(process.pid, name, begun))
    return sorted(known.values(), key=lambda one: one.pid)


def _name_in(process: psutil.Process, stack_dir: Path) -> str:
    try:
        environment = process.environ()
        if environment.get(MARKER) == str(stack_dir):
            return str(environment.get(NAME, "unnamed"))
        if _lives_in(process, stack_dir / "postgres"):
            return POSTGRES_CHILD
    except (psutil.Error, OSError):
        pass
    return ""


def _lives_in(process: psutil.Process, data: Path) -> bool:
    # PostgreSQL's children write their title over their environment, but stay in its data folder.
    return bool(process.name() == "postgres" and process.cwd() == str(data))


def living_in(data: Path) -> list[Found]:
    """Every PostgreSQL process whose data folder that is."""
    residents = []
    for process in psutil.process_iter():
        try:
            begun = started(process.pid) if _lives_in(process, data) else None
        except (psutil.Error, OSError):
            continue
        if begun is not None:
            residents.append(Found(process.pid, POSTGRES_CHILD, begun))
    return residents


def end(processes: Iterable[Found], how: signal.Signals, seconds: float) -> list[Found]:
    """Signal each and wait; what has not ended in time is killed. Returns what even so remains."""
    left = list(processes)
    for number, patience in ((how, seconds), (signal.SIGKILL, 2.0)):
        for one in left:
            if is_alive(one.pid, one.started):
                send(one.pid, number)
        deadline = time.monotonic() + patience
        while left and time.monotonic() < deadline:
            left = [one for one in left if is_alive(one.pid, one.started)]
            if left:
                time.sleep(POLL_SECONDS)
    return left


def wait_gone(found: Iterable[Found], seconds: float) -> None:
    """Wait until even the dead are out of the process table: whoever adopted them collects them late."""
    pids = {one.pid for one in found}
    deadline = time.monotonic() + seconds
    while pids and time.monotonic() < deadline:
        pids = {pid for pid in pids if _is_zombie(pid)}
        if pids:
            time.sleep(POLL_SECONDS)


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def sweep(stack_dir: Path, recorded: Iterable[Found] = ()) -> list[Found]:
    """End every process of the stack but this one: the services, then the servers. Returns the rest."""
    left: list[Found] = []
    remaining = find(stack_dir, recorded)
    services = [one for one in remaining if one.name.endswith(("-worker", "-api"))]
    databases = [one for one in remaining if one.name.startswith("postgres")]
    others = [one for one in remaining if one not in services and one not in databases]
    left += end(services, signal.SIGTERM, 5.0)
    for one in databases:
        # Fast shutdown, as on SIGTERM it would wait for its clients; meanwhile the broker stops, too.
        send(one.pid, signal.SIGINT)
    left += end(others, signal.SIGTERM, 8.0)
    left += end(databases, signal.SIGINT, 8.0)
    return left


def send(pid: int, number: signal.Signals) -> None:
    """Signal one process; that it has gone meanwhile is no error."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def is_free(port: int) -> bool:
    """Whether we could listen there. A port in TIME_WAIT is free, as it is to the servers."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def holder(port: int) -> str:
    """Who listens on the port, as far as this user may know: ``name (pid 123)`` or nothing."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""


def free_ports(count: int) -> list[int]:
    """Ports below the range that clients are given theirs from, free at this moment."""
    choices = random.SystemRandom().sample(range(FREE_PORT_MIN, FREE_PORT_MAX), 400)
    found = [port for port in choices if is_free(port)][:count]
    if len(found) < count:
        raise UsageError(f"no {count} free ports between {FREE_PORT_MIN} and {FREE_PORT_MAX}")
    return found


def wait_ready(spec: Spec, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Return once the process is ready; raise, with its last words, if it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while not spec.ready():
        ended = process.poll()
        late = time.monotonic() > deadline
        if ended is not None or late:
            what = f"ended with {ended}" if ended is not None else f"is not ready after {seconds} s"
            raise NotReady(spec.name, what, spec.log)
        time.sleep(POLL_SECONDS)


class NotReady(UsageError):
    """A process that ended, or took too long, before it was ready."""

    def __init__(self, name: str, what: str, log: Path) -> None:
        lines = [line for line in tail(log) if line.strip()][-LAST_LINES_MAX:]
        words = "".join(f"\n  {line[:LINE_LENGTH_MAX]}" for line in lines)
        super().__init__(f"{name} {what}; its log {log} ends with:{words}")
