"""Refunds on the write side: what was told, how each stands, and all that is needed to settle an account's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from services.points.domain import refunds as domain
from services.points.domain.clawbacks import PackedClawback
from services.points.domain.packed_campaigns import PackedCampaign
from services.points.domain.packing import COUNTED_IDS, PackedAward, decode
from services.points.domain.refunds import (
    GRANT_KINDS,
    AskedLine,
    Bought,
    Outcome,
    Refund,
)
from shared.contracts.points import Reduction
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "refunds.sql")
_lines = msgspec.json.Decoder(list[tuple[str | None, str | None, Decimal]]).decode
_encode = msgspec.json.Encoder(decimal_format="string").encode


class RefundRow(NamedTuple):
    """A refund or cancellation as it was told; the names are those of the table's columns."""

    refund_key: UUID
    event_key: UUID
    kind: str
    shop: str
    refund_id: str | None
    order_id: str | None
    purchase_id: UUID | None
    customer_id: str | None
    currency: str | None
    lines: str
    amount: Decimal | None
    reason: str
    occurred_at: datetime
    recorded_at: datetime
    event_id: str
    fingerprint: int


class Standing(NamedTuple):
    """How a refund stands: whose points it takes, its state and the code that says why."""

    refund_key: UUID
    account_id: int | None
    state: str
    code: str | None


class Whose(NamedTuple):
    """Whose a purchase is: a customer's, or nobody's and ``why`` (``guest``, ``test``)."""

    customer_id: str | None
    why: str | None


@dataclass(slots=True)
class Taken:
    """What one refund has taken out of one lot so far: the sums of its entries, and what the last of them says."""

    points: int = 0
    base: int = 0
    entries: int = 0
    told: PackedClawback | None = None


@dataclass(slots=True)
class Settling:
    """An account's refunds with the purchases they are about. ``taken`` is by refund and lot.

    ``rows`` are the refunds as stored (statement ``refunds_to_settle``), ``awards`` the purchases' own entries.
    """

    account_id: int
    rows: dict[UUID, asyncpg.Record] = field(default_factory=dict)
    refunds: list[Refund] = field(default_factory=list)
    purchases: dict[UUID, Bought] = field(default_factory=dict)
    awards: dict[UUID, asyncpg.Record] = field(default_factory=dict)
    taken: dict[tuple[UUID, UUID], Taken] = field(default_factory=dict)

    def outcomes(self) -> list[Outcome]:
        """Decide them; those of purchases that turn out to be others' or nobody's take nothing."""
        found: list[Outcome] = []
        own: list[Refund] = []
        for refund in self.refunds:
            row = self.rows[refund.key]
            if row["owner"] is not None and row["owner"] != self.account_id:
                found.append(Outcome(refund, domain.REFUSED, domain.OTHER_CUSTOMER))
            elif row["why"] is not None:
                found.append(Outcome(refund, domain.UNCREDITED, domain.uncredited(row["why"])))
            else:
                own.append(refund)
        return found + domain.outcomes(own, self.purchases.values())


def stored_lines(lines: Sequence[AskedLine], quantities: Sequence[Decimal]) -> str:
    """Write down which lines were asked for, quantities as the shop wrote them."""
    columns = zip(lines, quantities, strict=True)
    return _encode([(line.line_id, line.sku, quantity) for line, quantity in columns]).decode()


async def known(
    conn: Connection, keys: Sequence[UUID], events: Sequence[UUID]
) -> Sequence[asyncpg.Record]:
    """Which refunds or events have been recorded: (refund_key, event_key, fingerprint)."""
    return await conn.fetch(sql.known_refunds, keys, events)


async def purchases_of(conn: Connection, purchases: Collection[UUID]) -> dict[UUID, Whose]:
    """Whose these purchases are, as far as they are known."""
    if not purchases:
        return {}
    rows = await conn.fetch(sql.purchases_of, list(purchases))
    return {row["purchase_id"]: Whose(row["customer_id"], row["why"]) for row in rows}


async def hold_purchases(conn: Connection) -> None:
    """Wait for all batches of purchases at work, and let none begin until this transaction ends."""
    await conn.execute(sql.hold_purchases)


async def add(conn: Connection, rows: Sequence[RefundRow], standings: Sequence[Standing]) -> None:
    """Record refunds with how they stand before they are settled, and mark their accounts."""
    if not rows:
        return
    await conn.copy_records_to_table("refunds", records=rows, columns=RefundRow._fields)
    keys, accounts, states, codes = zip(*standings, strict=True)
    decided = [row.recorded_at for row in rows]
    await conn.execute(sql.add_outcomes, keys, accounts, states, codes, decided)


async def meet(
    conn: Connection,
    purchases: Iterable[tuple[UUID, int | None, str | None, str | None]],
    now: datetime,
) -> set[int]:
    """Tell waiting refunds that these purchases (id, account, customer, why not credited) have come.

    Returns the accounts that must be settled for it.
    """
    columns = list(zip(*purchases, strict=True))
    if not columns:
        return set()
    rows = await conn.fetch(sql.meet_purchases, *columns, now)
    return {row["account_id"] for row in rows}


async def stragglers(conn: Connection, count: int) -> Sequence[UUID]:
    """Known purchases for which refunds still wait, at most so many."""
    return [row["purchase_id"] for row in await conn.fetch(sql.stragglers, count)]


async def load(conn: Connection, accounts: Collection[int]) -> list[Settling]:
    """All that decides what these accounts' refunds take, and what they have taken so far."""
    found: dict[int, Settling] = {}
    for row in await conn.fetch(sql.refunds_to_settle, list(accounts)):
        settling = found.setdefault(row["account_id"], Settling(row["account_id"]))
        settling.rows[row["refund_key"]] = row
        settling.refunds.append(_refund(row))
    if not found:
        return []
    lots = {r.purchase_id for one in found.values() for r in one.refunds if r.purchase_id}
    searching = {
        one.account_id: max(instants)
        for one in found.values()
        if (instants := [r.occurred_at for r in one.refunds if r.purchase_id is None])
    }
    rows = await conn.fetch(
        sql.lots_to_settle, list(found), list(lots), list(searching), list(searching.values())
    )
    entries: dict[tuple[int, UUID], list[asyncpg.Record]] = {}
    for row in rows:
        entries.setdefault((row["account_id"], row["lot_id"]), []).append(row)
    for (account_id, lot_id), lines in entries.items():
        _add_lot(found[account_id], lot_id, lines)
    return list(found.values())


async def to_settle(conn: Connection, accounts: Collection[int]) -> Sequence[int]:
    """Those of these accounts whose refunds may take something else than they do."""
    rows = await conn.fetch(sql.accounts_to_settle, list(accounts))
    return [row["account_id"] for row in rows]


async def decide(
    conn: Connection,
    accounts: Mapping[int, int],
    decided: Sequence[tuple[UUID, str, str | None, int]],
    now: datetime,
) -> None:
    """Store how refunds (key, state, code, points taken) stand, decided up to these entries of their accounts."""
    columns: Sequence[Sequence[object]] = list(zip(*decided, strict=True)) or [(), (), (), ()]
    await conn.execute(sql.decide_outcomes, list(accounts), list(accounts.values()), now, *columns)


async def states(conn: Connection, keys: Sequence[UUID]) -> Mapping[UUID, tuple[str, str | None]]:
    """State and code of these refunds."""
    rows = await conn.fetch(sql.states, keys)
    return {row["refund_key"]: (row["state"], row["code"]) for row in rows}


async def reductions(
    conn: Connection, accounts: Collection[int], lots: Collection[UUID]
) -> dict[UUID, list[Reduction]]:
    """What refunds take out of what these lots' purchases count for, for the ``standing`` of their events."""
    found: dict[UUID, list[Reduction]] = {}
    for row in await conn.fetch(sql.reductions_of, list(lots), list(accounts)):
        told = decode(row["explanation"])
        if isinstance(told, PackedClawback) and (reduction := reduction_of(told)):
            found.setdefault(row["lot_id"], []).append(reduction)
    for parts in found.values():
        parts.sort(key=lambda part: part.at)
    return found


def reduction_of(told: PackedClawback) -> Reduction | None:
    """What a purchase counts for less by one refund; None for nothing."""
    if not (told.base or told.spend or told.purchases):
        return None
    return Reduction(told.at, told.base, f"{told.spend:f}", told.purchases)


async def cancelled_orders(conn: Connection, accounts: Collection[int]) -> Sequence[asyncpg.Record]:
    """The cancelled orders of these accounts: what was spent on them goes back."""
    return await conn.fetch(sql.cancelled_orders, list(accounts))


def _refund(row: asyncpg.Record) -> Refund:
    return Refund(
        key=row["refund_key"],
        kind=row["kind"],
        shop=row["shop"],
        purchase_id=row["purchase_id"],
        occurred_at=row["occurred_at"],
        currency=row["currency"],
        lines=[AskedLine(line_id, sku, Fraction(n)) for line_id, sku, n in _lines(row["lines"])],
        amount=None if row["amount"] is None else Fraction(row["amount"]),
    )


def _add_lot(settling: Settling, lot_id: UUID, entries: Sequence[asyncpg.Record]) -> None:
    award: asyncpg.Record | None = None
    packed: PackedAward | None = None
    weights: Sequence[str] | None = None
    total = base = 0
    for entry in entries:
        kind = entry["kind"]
        told = None if entry["explanation"] is None else decode(entry["explanation"])
        if kind in GRANT_KINDS:
            total += entry["points"]
            base += entry["base"]
            if isinstance(told, PackedAward):
                award, packed = entry, told
            if isinstance(told, PackedAward | PackedCampaign):
                weights = told.weights
        elif isinstance(told, PackedClawback):
            taken = settling.taken.setdefault((entry["event_key"], lot_id), Taken())
            taken.points -= entry["points"]
            taken.base -= entry["base"]
            taken.entries += 1
            taken.told = told
    if award is None or packed is None:
        return
    settling.awards[lot_id] = award
    count = len(packed.skus)
    settling.purchases[lot_id] = Bought(
        lot_id=lot_id,
        shop=award["shop"],
        occurred_at=award["occurred_at"],
        currency=packed.paid_in or packed.currency,
        line_ids=packed.line_ids or COUNTED_IDS[:count],
        skus=packed.skus,
        quantities=packed.quantities,
        nets=packed.nets,
        weights=packed.nets if weights is None else [Fraction(weight) for weight in weights],
        reasons=packed.reasons or {},
        net_spend=award["net_spend"],
        total=total,
        base=base,
    )
