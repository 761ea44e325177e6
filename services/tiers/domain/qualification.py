"""What counts for tiers: qualifying entries in the order of the world, and what a span of them adds up to."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import accumulate
from typing import Literal
from uuid import UUID

import msgspec

from shared.contracts import points

Amount = int | Decimal
Basis = Literal["points", "spend", "purchases"]

_reductions = msgspec.json.Decoder(list[points.Reduction])


@dataclass(frozen=True, slots=True)
class Reduction:
    """What a refund at the instant ``at`` took out of what a purchase adds."""

    at: datetime
    amount: Amount


@dataclass(frozen=True, slots=True)
class Qualifying:
    """One entry that counts: the points entry ``id`` of a purchase, and what it adds before any refund.

    ``reductions`` together never take more than ``amount``.
    """

    id: UUID
    occurred_at: datetime
    amount: Amount
    reductions: tuple[Reduction, ...] = ()

    @property
    def known_until(self) -> datetime:
        """The last instant at which this entry says something."""
        return max((self.occurred_at, *(reduction.at for reduction in self.reductions)))

    def amount_at(self, instant: datetime, *, at_it: bool = True) -> Amount:
        """What is left of it once the refunds before the instant (``at_it``: and at it) are known.

        What was given back before it was bought, or at once, never counted.
        """
        return self.amount - sum(
            taken.amount
            for taken in self.reductions
            if taken.at < instant or (at_it and taken.at == instant) or taken.at <= self.occurred_at
        )


def amount(basis: Basis, base: int, net_spend: Decimal, purchases: int) -> Amount:
    """What an entry adds under the program's basis. Points are base points: tiers never feed themselves."""
    if basis == "points":
        return base
    return net_spend if basis == "spend" else purchases


def counting(
    basis: Basis,
    entry_id: UUID,
    occurred_at: datetime,
    base: int,
    net_spend: Decimal,
    purchases: int,
    reductions: str | None,
) -> Qualifying:
    """An entry as it is kept (``reductions``: a JSON list of the contract's), under the program's basis."""
    adds = amount(basis, base, net_spend, purchases)
    if reductions is None:
        return Qualifying(entry_id, occurred_at, adds)
    taken = [
        Reduction(r.at, amount(basis, r.base, Decimal(r.net_spend), r.purchases))
        for r in _reductions.decode(reductions)
    ]
    return Qualifying(entry_id, occurred_at, adds, tuple(taken))


class Entries:
    """Entries by ``occurred_at``, then id, each once, with running sums: a span's amount is one subtraction.

    At first each counts for what it was when it happened; ``lower`` lets a refund take effect. ``refunds`` tells
    which: by instant, what is taken from the entries at which index. ``granted`` are the sums without them.
    """

    __slots__ = ("granted", "ordered", "refunds", "sums", "times")

    def __init__(self, entries: Iterable[Qualifying]) -> None:
        unique = {entry.id: entry for entry in entries}
        self.ordered = sorted(unique.values(), key=_place)
        self.times = [entry.occurred_at for entry in self.ordered]
        self.refunds = _refunds(self.ordered)
        self.sums = self.granted = _sums(
            entry.amount_at(entry.occurred_at) if entry.reductions else entry.amount
            for entry in self.ordered
        )

    def without(self, instant: datetime, *, at_it: bool) -> Entries:
        """The same as if what was refunded before the instant (``at_it``: and at it) had never been bought."""
        found = copy(self)
        found.refunds = {}
        found.sums = found.granted = _sums(
            entry.amount_at(instant, at_it=at_it) for entry in self.ordered
        )
        return found

    def lower(self, instant: datetime) -> None:
        """Let the refunds at an instant of ``refunds`` take effect."""
        for index, amount in self.refunds[instant]:
            end = index + 1
            self.sums = self.sums[:end] + [total - amount for total in self.sums[end:]]

    def before(self, instant: datetime) -> int:
        """How many happened before the instant."""
        return bisect_left(self.times, instant)

    def through(self, instant: datetime) -> int:
        """How many happened before the instant or at it."""
        return bisect_right(self.times, instant)

    def amount(self, first: int, end: int) -> Amount:
        """What the entries from index ``first`` up to and without ``end`` add up to."""
        return self.sums[end] - self.sums[first] if first < end else 0


def _place(entry: Qualifying) -> tuple[datetime, UUID]:
    return entry.occurred_at, entry.id


def _sums(amounts: Iterable[Amount]) -> list[Amount]:
    return list(accumulate(amounts, initial=0))


def _refunds(
    ordered: Iterable[Qualifying],
) -> Mapping[datetime, list[tuple[int, Amount]]]:
    found: defaultdict[datetime, list[tuple[int, Amount]]] = defaultdict(list)
    for index, entry in enumerate(ordered):
        for reduction in entry.reductions:
            if reduction.at > entry.occurred_at and reduction.amount:
                found[reduction.at].append((index, reduction.amount))
    return dict(sorted(found.items()))
