"""The processes of a stack as they are at this moment, from its state file and the system itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import clock
from shared.stack import processes
from shared.stack.files import read_json, tail
from shared.stack.layout import Layout

SUPERVISOR = "supervisor"
BAD = ("error", "critical")
# How a traceback ends, and how Kafka and PostgreSQL mark a line that tells of an error.
ERROR = re.compile(r"^[\w.]+(Error|Exception): |\b(ERROR|FATAL|PANIC)\b")
# PostgreSQL's answer to those who ask too early, our own probe among them.
HARMLESS = (
    "the database system is starting up",
    "the database system is not yet accepting connections",
    "the database system is shutting down",
)


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """One process; ``state`` is ready, starting, waiting (for its restart), stopping, stopped or dead."""

    name: str
    state: str
    pid: int | None
    uptime_seconds: float | None
    restarts: int
    last_exit: dict[str, Any] | None
    last_error: str

    @property
    def healthy(self) -> bool:
        """Whether it does its work."""
        return self.state == "ready"


def of(layout: Layout) -> list[ProcessReport]:
    """Every process the supervisor answers for, and the supervisor itself; empty before a first start."""
    state = read_json(layout.state_json)
    if state is None:
        return []
    supervisor = {"name": SUPERVISOR, **state["supervisor"]}
    return [_report(record, layout) for record in (supervisor, *state["processes"])]


def _report(record: dict[str, Any], layout: Layout) -> ProcessReport:
    pid, since = record.get("pid"), record.get("started")
    alive = bool(pid and since and processes.is_alive(pid, since))
    # The file is only as fresh as its writer: a killed supervisor leaves the state of its last breath.
    state = record["state"] if alive or record["state"] in ("waiting", "stopped") else "dead"
    return ProcessReport(
        name=record["name"],
        state=state,
        pid=pid if alive else None,
        uptime_seconds=round(clock.now().timestamp() - since, 1) if alive and since else None,
        restarts=record.get("restarts", 0),
        last_exit=record.get("last_exit"),
        last_error=last_error(layout.log(record["name"])),
    )


def last_error(log: Path) -> str:
    """The last line of a log that tells of an error, shortened to what a person reads."""
    for line in reversed(tail(log)):
        told = _error_in(line)
        if told:
            return told
    return ""


def _error_in(line: str) -> str:
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            return ""
        if not isinstance(entry, dict) or entry.get("level") not in BAD:
            return ""
        about = entry.get("error") or entry.get("exception") or ""
        detail = about if isinstance(about, str) else ""
        when = entry.get("timestamp", "")
        return " ".join(part for part in (when, entry.get("event", ""), detail) if part)
    if not ERROR.search(line) or line.endswith(HARMLESS):
        return ""
    return line.strip()
