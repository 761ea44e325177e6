"""What counts for tiers: qualifying entries in the order of the world, and what a span of them adds up to."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import accumulate
from typing import Literal
from uuid import UUID

Amount = int | Decimal
Basis = Literal["points", "spend", "purchases"]


@dataclass(frozen=True, slots=True)
class Qualifying:
    """One entry that counts: the points entry ``id`` of a purchase, and what it adds."""

    id: UUID
    occurred_at: datetime
    amount: Amount


def amount(basis: Basis, base: int, net_spend: Decimal, purchases: int) -> Amount:
    """What an entry adds under the program's basis. Points are base points: tiers never feed themselves."""
    if basis == "points":
        return base
    return net_spend if basis == "spend" else purchases


class Entries:
    """Entries by ``occurred_at``, then id, each once, with running sums: a span's amount is one subtraction."""

    __slots__ = ("ordered", "sums", "times")

    def __init__(self, entries: Iterable[Qualifying]) -> None:
        unique = {entry.id: entry for entry in entries}
        self.ordered = sorted(unique.values(), key=_place)
        self.times = [entry.occurred_at for entry in self.ordered]
        amounts = (entry.amount for entry in self.ordered)
        self.sums: list[Amount] = list(accumulate(amounts, initial=0))

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
