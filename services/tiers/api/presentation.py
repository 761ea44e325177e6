"""From the domain's values to what the API answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from asyncpg import Record

from services.tiers.api import schemas
from services.tiers.domain.progression import Timeline, multiplier_text
from services.tiers.domain.qualification import Amount
from services.tiers.domain.rules import Rules
from shared.contracts.tiers import TierMove
from shared.money import currency_digits
from shared.program import Program
from shared.program.model import Level

_move = msgspec.json.Decoder(TierMove)
Orders = Mapping[UUID, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Presenter:
    """Knows the program's names and how its amounts are written."""

    rules: Rules
    currency: str

    @classmethod
    def of(cls, program: Program) -> Presenter:
        """For a program."""
        return cls(Rules(program), program.currency)

    def status(self, customer_id: str, timeline: Timeline) -> schemas.TierStatus:
        """The tier at the instant until which the timeline was walked."""
        level, following = timeline.level, timeline.next_level
        return schemas.TierStatus(
            customer_id=customer_id,
            tier=None
            if level is None
            else schemas.TierInForce(
                id=level.id, name=level.name, multiplier=multiplier_text(level.multiplier)
            ),
            since=timeline.since,
            valid_until=timeline.valid_until,
            qualifying=schemas.Qualified(
                amount=self._amount(timeline.amount),
                basis=self.rules.basis,
                window_from=timeline.window_from,
                window_until=timeline.window_until,
            ),
            next_tier=None
            if following is None or timeline.missing is None
            else schemas.NextTier(
                id=following.id, name=following.name, missing=self._amount(timeline.missing)
            ),
            grace_until=timeline.grace_until,
            as_of=timeline.until,
        )

    def move(
        self, move: TierMove, orders: Orders, recorded: tuple[int, datetime] | None
    ) -> schemas.Move:
        """A step of the way."""
        return schemas.Move(
            kind=move.kind,
            tier=self._ref(move.tier),
            previous=self._ref(move.previous),
            multiplier=move.multiplier,
            since=move.since,
            valid_until=move.valid_until,
            reach=move.reach or None,
            cause=_cause(None if move.cause is None else UUID(move.cause), orders),
            revision=recorded[0] if recorded else None,
            recorded_at=recorded[1] if recorded else None,
        )

    def change(self, row: Record, orders: Orders) -> schemas.Change:
        """A line of the record."""
        replaced = None if row["replaced"] is None else _move.decode(row["replaced"])
        return schemas.Change(
            kind=row["kind"],
            tier=self._ref(row["tier"]),
            previous=self._ref(row["previous"]),
            multiplier=row["multiplier"],
            since=row["since"],
            valid_until=row["valid_until"],
            reach=row["reach"] or None,
            cause=_cause(row["cause"], orders),
            revision=row["revision"],
            recorded_at=row["recorded_at"],
            replaced=None
            if replaced is None
            else schemas.Replaced(
                since=replaced.since,
                valid_until=replaced.valid_until,
                cause=None if replaced.cause is None else UUID(replaced.cause),
            ),
        )

    def levels(self) -> schemas.LevelsPage:
        """What the program says of its levels: all of them on one page."""
        tiers = self.rules.tiers
        length = tiers.window.length
        return schemas.LevelsPage(
            data=[self._level(level) for level in tiers.levels],
            next_cursor=None,
            has_more=False,
            basis=self.rules.basis,
            window=schemas.WindowDefinition(
                kind=tiers.window.kind, length=None if length is None else str(length)
            ),
            downgrade=tiers.downgrade,
            grace=str(tiers.grace),
        )

    def _level(self, level: Level) -> schemas.LevelDefinition:
        return schemas.LevelDefinition(
            id=level.id,
            name=level.name,
            threshold=self._amount(level.threshold),
            multiplier=multiplier_text(level.multiplier),
            on_reach=list(level.on_reach),
        )

    def _ref(self, tier: str | None) -> schemas.TierRef | None:
        if not tier:
            return None
        # A level that the program no longer has keeps its id for a name.
        names = (level.name for level in self.rules.tiers.levels if level.id == tier)
        return schemas.TierRef(id=tier, name=next(names, tier))

    def _amount(self, amount: Amount) -> schemas.Amount:
        return int(amount) if self.rules.basis != "spend" else money(Decimal(amount), self.currency)


def money(amount: Decimal, currency: str) -> str:
    """Exactly, with at least the currency's digits after the point."""
    exponent = amount.as_tuple().exponent
    digits = max(currency_digits(currency), -exponent if isinstance(exponent, int) else 0)
    return f"{amount:.{digits}f}"


def _cause(entry_id: UUID | None, orders: Orders) -> schemas.Cause:
    shop, order_id = orders.get(entry_id, (None, None)) if entry_id else (None, None)
    kind: schemas.CauseType = "purchase" if entry_id else "time"
    return schemas.Cause(type=kind, id=entry_id, shop=shop, order_id=order_id)
