"""From the domain's values to what the API answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from shared.program.model import Level, Tiers

_move = msgspec.json.Decoder(TierMove)


@dataclass(frozen=True, slots=True)
class Causes:
    """What is known of the causes of some moves: shop and order of entries, and refunds of entries by instant."""

    orders: Mapping[UUID, tuple[str | None, str | None]]
    refunds: Mapping[tuple[UUID, datetime], str]

    def of(self, kind: str, entry_id: UUID | None, since: datetime) -> schemas.Cause:
        """Tell one."""
        if entry_id is None:
            return schemas.Cause(type="time", id=None, shop=None, order_id=None, refund_id=None)
        known = self.orders.get(entry_id)
        shop, order_id = known or (None, None)
        what: schemas.CauseType = "activity" if known and order_id is None else "purchase"
        # A purchase lifts or keeps; where one lets somebody fall, it was refunded.
        refund = kind == "downgraded" or (kind == "withdrawn" and (entry_id, since) in self.refunds)
        return schemas.Cause(
            type="refund" if refund else what,
            id=entry_id,
            shop=shop,
            order_id=order_id,
            refund_id=self.refunds.get((entry_id, since)) if refund else None,
        )


@dataclass(frozen=True, slots=True)
class Presenter:
    """Knows the program's names at an instant (None: at first) and how its amounts are written."""

    rules: Rules
    currency: str
    now: datetime | None = None

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
        self, move: TierMove, causes: Causes, recorded: tuple[int, datetime] | None
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
            cause=causes.of(
                move.kind, None if move.cause is None else UUID(move.cause), move.since
            ),
            revision=recorded[0] if recorded else None,
            recorded_at=recorded[1] if recorded else None,
        )

    def change(self, row: Record, causes: Causes) -> schemas.Change:
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
            cause=causes.of(row["kind"], row["cause"], row["since"]),
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

    def at(self, now: datetime) -> Presenter:
        """The same at an instant, by all versions of the program that have come."""
        self.rules.look()
        return replace(self, now=now)

    @property
    def tiers(self) -> Tiers:
        """The rules in force."""
        return self.rules.tiers if self.now is None else self.rules.at(self.now)

    def levels(self) -> schemas.LevelsPage:
        """What the program says of its levels: all of them on one page."""
        tiers = self.tiers
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
        names = (level.name for level in self.tiers.levels if level.id == tier)
        return schemas.TierRef(id=tier, name=next(names, tier))

    def _amount(self, amount: Amount) -> schemas.Amount:
        return int(amount) if self.rules.basis != "spend" else money(Decimal(amount), self.currency)


def money(amount: Decimal, currency: str) -> str:
    """Exactly, with at least the currency's digits after the point."""
    exponent = amount.as_tuple().exponent
    digits = max(currency_digits(currency), -exponent if isinstance(exponent, int) else 0)
    return f"{amount:.{digits}f}"
