"""What points may tell before it may count; each refusal names its field."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation, localcontext
from typing import NamedTuple

from shared.contracts.points import PointsEarned, Standing
from shared.errors import Poison
from shared.money import EXACT

BASE_MAX = SEQ_MAX = 2**63 - 1
PURCHASES_MAX = 2**31 - 1
# Sums of such amounts stay exact within the 60 digits we calculate with.
SPEND_WHOLE_DIGITS_MAX = 28
SPEND_FRACTION_DIGITS_MAX = 25
YEARS = range(1900, 9000)


class Numbers(NamedTuple):
    """What something counts for; which of them decides is the program's choice."""

    base: int
    net_spend: Decimal
    purchases: int


class Taken(NamedTuple):
    """What a refund took out of what a purchase counts for, at its instant."""

    at: datetime
    numbers: Numbers


def check_earned(data: PointsEarned) -> Numbers:
    """What an award counts for; it is a purchase if it has an order. Raises Poison."""
    check_texts(data.customer_id, data.shop, data.order_id, data.bought_as)
    check_instant(data.occurred_at, "data.occurred_at")
    return _numbers(data.base, data.net_spend, 1 if data.order_id else 0, "data")


def check_standing(data: Standing) -> tuple[Numbers, tuple[Taken, ...]]:
    """What a purchase counts for in full, and what refunds took out of that. Raises Poison."""
    path = "data.standing"
    if not 0 <= data.seq <= SEQ_MAX:
        raise Poison(f"{path}.seq", f"{data.seq} is no number of an entry")
    check_instant(data.occurred_at, f"{path}.occurred_at")
    full = _numbers(data.base, data.net_spend, data.purchases, path)
    left, taken = full, []
    for place, reduction in enumerate(data.reductions):
        inside = f"{path}.reductions[{place}]"
        check_instant(reduction.at, f"{inside}.at")
        numbers = _numbers(reduction.base, reduction.net_spend, reduction.purchases, inside)
        left = _less(left, numbers)
        if left.base < 0 or left.net_spend < 0 or left.purchases < 0:
            raise Poison(inside, "more is taken than the purchase counts for")
        taken.append(Taken(reduction.at, numbers))
    return full, tuple(taken)


def check_texts(customer_id: str, *others: str | None) -> None:
    """Raise Poison for what PostgreSQL cannot keep, or for nobody's customer id."""
    if not customer_id or "\0" in customer_id or any(text and "\0" in text for text in others):
        raise Poison("data", "customer_id, shop and order_id need text without NUL characters")


def check_instant(instant: datetime, field: str) -> None:
    """Raise Poison for an instant without a zone, or from where our calendar ends."""
    if instant.tzinfo is None or instant.year not in YEARS:
        raise Poison(field, f"{instant.isoformat()} is no instant we can use")


def _numbers(base: int, net_spend: str, purchases: int, path: str) -> Numbers:
    if not 0 <= base <= BASE_MAX:
        raise Poison(f"{path}.base", f"{base} base points: 0 to {BASE_MAX} are possible")
    if not 0 <= purchases <= PURCHASES_MAX:
        raise Poison(f"{path}.purchases", f"{purchases} purchases are not possible")
    return Numbers(base, _spend(net_spend, f"{path}.net_spend"), purchases)


def _less(have: Numbers, less: Numbers) -> Numbers:
    with localcontext(EXACT):
        spend = have.net_spend - less.net_spend
    return Numbers(have.base - less.base, spend, have.purchases - less.purchases)


def _spend(text: str, field: str) -> Decimal:
    try:
        spend = Decimal(text)
    except InvalidOperation:
        raise Poison(field, f"{text[:50]!r} is not a decimal number") from None
    if not spend.is_finite() or spend < 0:
        raise Poison(field, f"{text[:50]} is not an amount of 0 or more")
    exponent = spend.as_tuple().exponent
    too_long = isinstance(exponent, int) and -exponent > SPEND_FRACTION_DIGITS_MAX
    if too_long or spend.adjusted() >= SPEND_WHOLE_DIGITS_MAX:
        raise Poison(field, f"{text[:50]} has too many digits")
    return spend
