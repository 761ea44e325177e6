"""Short ways to write tier rules, entries and moves in tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from services.tiers.domain.progression import Timeline, timeline
from services.tiers.domain.qualification import Amount, Qualifying
from shared.clock import Period
from shared.program.model import Level, Tiers, Window

BERLIN = ZoneInfo("Europe/Berlin")
LONDON = ZoneInfo("Europe/London")
UTC_ZONE = ZoneInfo("UTC")


def at(text: str) -> datetime:
    """``2027-01-31`` or ``2027-01-31T12:00`` or with an offset; UTC without one."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def level(name: str, threshold: str, multiplier: str = "1", on_reach: Sequence[str] = ()) -> Level:
    return Level.model_construct(
        id=name,
        name=name.title(),
        threshold=Decimal(threshold),
        multiplier=Fraction(multiplier),
        on_reach=tuple(on_reach),
    )


THREE = (level("bronze", "0"), level("silver", "500", "1.25"), level("gold", "2000", "1.5"))


def rules(
    window: str = "P12M",
    *,
    downgrade: str = "full",
    grace: str = "P0D",
    levels: Sequence[Level] = THREE,
    basis: str = "points",
) -> Tiers:
    """``window`` is a kind, or the length of a rolling one."""
    rolling = window.startswith("P")
    return Tiers.model_construct(
        basis=basis,  # type: ignore[arg-type]
        window=Window.model_construct(
            kind="rolling" if rolling else window,  # type: ignore[arg-type]
            length=Period.parse(window) if rolling else None,
        ),
        downgrade=downgrade,  # type: ignore[arg-type]
        grace=Period.parse(grace),
        levels=tuple(levels),
    )


def entries(*pairs: tuple[str, Amount]) -> list[Qualifying]:
    """(instant, amount) each; ids count from 1."""
    return [Qualifying(UUID(int=n), at(when), what) for n, (when, what) in enumerate(pairs, 1)]


def told(found: Timeline) -> list[str]:
    """Each move in one line: ``upgraded silver#1 2027-01-01T00:00 until 2028-01-02T00:00 by 1``."""
    return [_line(move) for move in found.moves]


def _line(move: Any) -> str:
    reach = f"#{move.reach}" if move.reach else ""
    until = f" until {_short(move.valid_until)}" if move.valid_until else ""
    cause = f" by {UUID(move.cause).int}" if move.cause else ""
    return f"{move.kind} {move.tier}{reach} {_short(move.since)}{until}{cause}"


def _short(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def walked(
    given: Sequence[Qualifying], by: Tiers, until: str, zone: ZoneInfo = UTC_ZONE
) -> Timeline:
    return timeline(given, by, zone, at(until))
