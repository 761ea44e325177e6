"""What a voucher is worth and how long it counts, as fixed when its cause was decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from shared import clock
from shared.clock import Period
from shared.contracts.rewards import VoucherKind
from shared.money import currency_digits
from shared.program.model import Program
from shared.program.vouchers import Scope, VoucherDefinition


@dataclass(frozen=True, slots=True)
class Articles:
    """Lines of a cart, by article number or category; nothing named means none in particular."""

    skus: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """A voucher's own copy of its definition: a later program changes new vouchers only.

    ``value`` is per cent for ``percent``, money for ``amount`` and ``gift_card``, else nothing;
    ``currency`` is the one of every amount of money in here.
    """

    kind: VoucherKind
    name: str | None
    value: Decimal | None
    currency: str | None
    sku: str | None
    valid_for: str | None
    timezone: str
    min_order: Decimal | None
    max_discount: Decimal | None
    include: Articles
    exclude: Articles
    combinable: bool
    max_redemptions: int


_encode = msgspec.json.Encoder(decimal_format="string").encode
_decode = msgspec.json.Decoder(Terms).decode


def terms_of(definition: str, program: Program) -> Terms:
    """The terms that the program gives to vouchers of this definition now."""
    found = program.vouchers[definition]
    money = (found.amount, found.min_order, found.max_discount)
    return Terms(
        kind=found.kind,
        name=found.name,
        value=_value(found, program),
        currency=None if money == (None, None, None) else program.currency,
        sku=found.sku,
        valid_for=None if found.valid_for is None else str(found.valid_for),
        timezone=program.timezone,
        min_order=_money(found.min_order, program),
        max_discount=_money(found.max_discount, program),
        include=_articles(found.include),
        exclude=_articles(found.exclude),
        combinable=found.combinable,
        max_redemptions=found.max_redemptions,
    )


def expires_at(issued_at: datetime, terms: Terms) -> datetime | None:
    """The midnight after the last valid day: the local date of the cause plus ``valid_for``."""
    if terms.valid_for is None:
        return None
    return clock.end_of_day(issued_at, _period(terms.valid_for), ZoneInfo(terms.timezone))


# A program has a handful of them.
_period = lru_cache(maxsize=256)(Period.parse)


def terms_to_json(terms: Terms) -> str:
    """Terms as they are stored."""
    return _encode(terms).decode()


def terms_from_json(text: str) -> Terms:
    """Terms as they were stored."""
    return _decode(text)


def decimal_text(value: Decimal | None) -> str | None:
    """As people and contracts write it: ``10``, ``25.00``; never an exponent."""
    return None if value is None else f"{value:f}"


def _value(definition: VoucherDefinition, program: Program) -> Decimal | None:
    if definition.percent is not None:
        return Decimal(f"{definition.percent.normalize():f}")  # 10.0 → 10, and not 1E+1
    return _money(definition.amount, program)


def _money(amount: Decimal | None, program: Program) -> Decimal | None:
    """``25`` → ``25.00`` in a currency of two digits; never fewer digits than were given."""
    if amount is None:
        return None
    digits = max(currency_digits(program.currency), -int(amount.as_tuple().exponent))
    return Decimal(f"{amount:.{digits}f}")


def _articles(scope: Scope) -> Articles:
    return Articles(tuple(sorted(scope.skus)), tuple(sorted(scope.categories)))
