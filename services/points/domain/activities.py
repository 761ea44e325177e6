"""What counts of what customers do besides buying: limits in the order of the world, and referrals."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from shared import clock
from shared.program.earning import Limit

COUNTED = ""
LIMIT = "limit"
UNKNOWN = "unknown-activity"
SELF = "self-referral"


class Done(NamedTuple):
    """Something a customer did, once per activity and reference."""

    id: UUID
    occurred_at: datetime


class FirstPurchase(NamedTuple):
    """A customer's earliest credited purchase."""

    id: UUID
    occurred_at: datetime


class Referral(NamedTuple):
    """A customer (``friend``) was brought by another (``referrer``); both are accounts."""

    id: UUID
    activity: str
    occurred_at: datetime
    friend: int
    referrer: int
    first: FirstPurchase | None


class Granted(NamedTuple):
    """A referral that is paid for: since ``at``, to the friend, and to the referrer unless a limit forbids."""

    referral: Referral
    purchase: UUID
    at: datetime


def counted(done: Iterable[Done], limit: Limit | None, zone: ZoneInfo) -> frozenset[UUID]:
    """Return which of one customer's acts of one kind count, decided by ``occurred_at``, then id.

    ``times: 1, per: P1D`` is once a calendar day of the zone: the period counts whole local days, this one as the
    last. What does not count uses nothing up.
    """
    ordered = sorted(done, key=lambda one: (one.occurred_at, one.id))
    if limit is None:
        return frozenset(one.id for one in ordered)
    if limit.per is None:
        return frozenset(one.id for one in ordered[: limit.times])
    found: set[UUID] = set()
    within: deque[datetime] = deque()
    for one in ordered:
        today = clock.local_midnight(clock.local_date(one.occurred_at, zone), zone)
        start = clock.subtract(today, limit.per, zone)
        while within and within[0] <= start:
            within.popleft()
        if len(within) < limit.times:
            within.append(today)
            found.add(one.id)
    return frozenset(found)


def granted(referrals: Iterable[Referral]) -> Sequence[Granted]:
    """Return which referrals are paid for, by when: a friend is brought once, by the first to say so.

    The first purchase must not have happened before the referral: who buys already needs nobody to bring them.
    """
    first: dict[tuple[str, int], Referral] = {}
    for one in sorted(referrals, key=lambda one: (one.occurred_at, one.id)):
        first.setdefault((one.activity, one.friend), one)
    return [
        Granted(one, one.first.id, one.first.occurred_at)
        for one in first.values()
        if one.first is not None and one.first.occurred_at >= one.occurred_at
    ]
