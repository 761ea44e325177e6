"""Later versions of a program: rules that hold from an instant on, for what happens from then on.

A folder of program files, each named by the instant it is valid from (``20270101T000000Z-46b290243e15.yaml``).
Every event is decided by the rules in force at its ``occurred_at``, however late it comes. So a version may change
what purchases earn and how long it lasts, but nothing by which points that are there would be valued anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from shared.errors import UsageError
from shared.program.difference import Difference, difference
from shared.program.loader import load as load_file
from shared.program.mistakes import Path as Place
from shared.program.mistakes import dotted
from shared.program.model import Program, base_level

LEVELS: Place = ("tiers", "levels")
# What is decided once, when a purchase is credited, and stands with it.
MAY_CHANGE: tuple[Place, ...] = (
    ("name",),
    ("earning", "base"),
    ("earning", "point_value"),
    ("earning", "net_of_tax"),
    ("earning", "exclude"),
    ("earning", "available_after"),
    ("earning", "expiry"),
    ("earning", "campaigns"),
    # Decided when a voucher is given, and its own from then on.
    ("vouchers",),
    # Decided at each step of a customer's way.
    LEVELS,
    ("tiers", "downgrade"),
    ("tiers", "grace"),
    # Bounds of what people may book from then on.
    ("corrections",),
)
INACTIVITY = "inactivity"
REVALUES = "program-revalues-points"
IN_THE_PAST = "program-begins-in-the-past"
TOO_SOON = "program-begins-too-soon"
NOT_THE_LAST = "program-not-the-last"
NOTHING_NEW = "program-changes-nothing"
VERSIONS_MAX = 200
# As far ahead as the dates of events may be (services/points/domain/validation.py).
LEVELS_AHEAD = timedelta(days=1)

_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{12}\.yaml")


class Version(NamedTuple):
    """Rules that are in force from an instant on."""

    valid_from: datetime
    program: Program


class ProgramChangeRefused(UsageError):
    """A version that cannot be taken; ``code`` is stable."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


def load(file: Path | str, folder: Path | None = None) -> Program:
    """Read a program file and the later versions in the folder; the program finds those itself (``Program.at``).

    Raises ProgramError for a file with mistakes, ProgramChangeRefused for a version that may not follow.
    """
    program = load_file(file)
    if folder is not None:
        program.follow(lambda: _stamp(folder), lambda: read(folder, program))
    return program


def read(folder: Path, program: Program) -> Sequence[Version]:
    """The versions in a folder, by time; each may follow the one before it."""
    found: list[Version] = []
    before = program
    for file in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
        name = _NAME.fullmatch(file.name)
        if name is None:
            raise UsageError(f"{file} is no version of a program: `treue program apply` names them")
        valid_from = datetime.strptime(name[1], _STAMP).replace(tzinfo=UTC)
        version = Version(valid_from, load_file(file))
        check_values(before, version.program)
        found.append(version)
        before = version.program
    return found


def check_values(old: Program, new: Program) -> list[Difference]:
    """What differs, if points that are there keep their value; raises ProgramChangeRefused otherwise."""
    if old.earning.expiry.kind == INACTIVITY and new.earning.expiry.kind != INACTIVITY:
        raise ProgramChangeRefused(
            REVALUES,
            "earning.expiry.kind: what is kept as long as a customer is active would end although they are"
            " (another `after` and `round_up` may be set)",
        )
    found = difference(old, new)
    wrong = [item for item in found if not _may(item)]
    if not wrong and _base_of(old) != _base_of(new):
        # Nobody has reached it, everybody is there: whoever it is another for would be valued anew.
        wrong = [item for item in found if item.path[:2] == LEVELS]
    if wrong:
        may = ", ".join(dotted(place) for place in MAY_CHANGE)
        raise ProgramChangeRefused(
            REVALUES,
            f"{'; '.join(item.words() for item in wrong)}: points that are there would be valued anew"
            f" (a version may change {may}; levels may come, but not go, change places or be the lowest instead)",
        )
    return found


def refusal(old: Program, new: Program) -> str | None:
    """Why the one may not follow the other as a version; None if it may."""
    try:
        check_values(old, new)
    except ProgramChangeRefused as refused:
        return str(refused)
    return None


def _may(item: Difference) -> bool:
    """Whether a version may change this. Levels may come, and become others, but not go or change places."""
    path = item.path
    if path[:2] == LEVELS and (path == LEVELS or item.new is None):
        return False
    return any(path[: len(place)] == place for place in MAY_CHANGE)


def _base_of(program: Program) -> str | None:
    """The id of the level that asks for nothing."""
    lowest = base_level(program.tiers.levels if program.tiers else ())
    return lowest.id if lowest else None


def apply(
    folder: Path, program: Program, file: Path, valid_from: datetime, now: datetime
) -> tuple[Path, list[Difference]]:
    """Put a program file among the versions; where it is now, and what it changes. Raises ProgramChangeRefused."""
    known = read(folder, program)
    new = load_file(file)
    at = valid_from.astimezone(UTC).replace(microsecond=0)
    if at <= now:
        raise ProgramChangeRefused(
            IN_THE_PAST, f"{at:%Y-%m-%dT%H:%M:%SZ} is not ahead: what has happened keeps its rules"
        )
    if known and at <= known[-1].valid_from:
        raise ProgramChangeRefused(
            NOT_THE_LAST,
            f"version {known[-1].program.version} is valid from {known[-1].valid_from:%Y-%m-%dT%H:%M:%SZ}:"
            " a new one begins after it",
        )
    if len(known) >= VERSIONS_MAX:
        raise UsageError(f"{folder} has {VERSIONS_MAX} versions: that is the most")
    found = check_values(known[-1].program if known else program, new)
    if at <= now + LEVELS_AHEAD and any(item.path[0] == "tiers" for item in found):
        raise ProgramChangeRefused(
            TOO_SOON,
            f"{at:%Y-%m-%dT%H:%M:%SZ} is less than a day ahead: events may be dated a day ahead, and levels decide"
            " what they earn",
        )
    if not found:
        raise ProgramChangeRefused(NOTHING_NEW, f"version {new.version} is what holds already")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{at.strftime(_STAMP)}-{new.version}.yaml"
    draft = target.with_suffix(".draft")
    draft.write_bytes(file.read_bytes())
    # Whole or not at all: services may look at any moment.
    draft.replace(target)
    return target, found


def _stamp(folder: Path) -> int:
    """What changes when a version comes; 0 while there is no folder."""
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
