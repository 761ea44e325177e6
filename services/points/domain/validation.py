"""What a purchase must look like before it may touch a balance; each refusal names its field."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, Inexact
from itertools import chain
from typing import cast

from services.points.domain.columns import Columns, columns_of
from services.points.domain.exact import ZERO, exactly
from shared.contracts.envelope import ID_CHARS_MAX
from shared.contracts.purchases import Line, PurchaseCompleted
from shared.errors import Poison
from shared.money import EXACT, UnknownCurrency, currency_digits
from shared.program.model import Program

NUMBER_MAX = Decimal(10) ** 12
DECIMALS_MAX = 9
LINES_MAX = 2000
AHEAD_MAX = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN_CHARS_MAX = 40
SHOP_PREFIX = "/shops/"

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def shop_of(source: str, program: Program) -> str:
    """Name the shop behind a CloudEvents source: ``/shops/online-retail`` is ``online-retail``."""
    shop = source.removeprefix(SHOP_PREFIX)
    check_id(shop, "source")
    if program.shops is not None and shop not in program.shops:
        allowed = ", ".join(program.shops)
        raise Poison("source", f"{shop!r} is no shop of program {program.id} (allowed: {allowed})")
    return shop


@exactly
def check(
    purchase: PurchaseCompleted, program: Program, now: datetime, columns: Columns | None = None
) -> None:
    """Raise ``Poison`` with the field's path for the first thing that no retry could ever mend."""
    check_id(purchase.order_id, "data.order_id")
    if purchase.customer_id is not None:
        check_id(purchase.customer_id, "data.customer_id")
    elif purchase.card_number is not None:
        check_id(purchase.card_number, "data.card_number")
    check_instant(purchase.occurred_at, now)
    _check_money(purchase, program)
    lines = purchase.lines
    if not lines:
        raise Poison("data.lines", "is empty: a purchase has at least one line")
    if len(lines) > LINES_MAX:
        raise Poison("data.lines", f"has {len(lines)} lines, more than {LINES_MAX}")
    columns = columns or columns_of(lines)
    if not (_texts_pass(columns) and _numbers_pass(columns)):
        _check_lines(lines)


def check_instant(occurred_at: datetime, now: datetime) -> None:
    """Refuse an instant that no clock can have shown yet, or that names no zone."""
    field = "data.occurred_at"
    if occurred_at.tzinfo is None:
        raise Poison(field, "has no time zone: write it as 2010-12-01T08:26:00Z")
    if occurred_at < EPOCH:
        raise Poison(field, f"{occurred_at.isoformat()} is before 1970-01-01T00:00:00Z")
    if occurred_at - now > AHEAD_MAX:
        raise Poison(field, f"{occurred_at.isoformat()} is more than a day ahead of our clock")


def _check_money(purchase: PurchaseCompleted, program: Program) -> None:
    rate = purchase.exchange_rate
    if rate is not None:
        check_number(rate, "data.exchange_rate", negative=False)
        if not rate:
            raise Poison("data.exchange_rate", "is zero: it must be above 0")
    if purchase.currency != program.currency:
        _check_foreign(purchase, program)
    elif rate is not None and rate != 1:
        raise Poison("data.exchange_rate", f"is {rate} from {program.currency} into itself, not 1")
    if purchase.order_discount:
        check_number(purchase.order_discount, "data.order_discount", negative=False)
        digits = currency_digits(purchase.currency)
        if _decimals(purchase.order_discount) > digits:
            reason = f"{purchase.order_discount} has more decimals than {purchase.currency} has"
            raise Poison("data.order_discount", f"{reason} ({digits})")
    if purchase.shipping:
        check_number(purchase.shipping, "data.shipping", negative=False)
    if purchase.total is not None:
        check_number(purchase.total, "data.total", negative=True)


def _check_foreign(purchase: PurchaseCompleted, program: Program) -> None:
    try:
        currency_digits(purchase.currency)
    except UnknownCurrency:
        shown = _shown(purchase.currency)
        raise Poison("data.currency", f"{shown} is not a currency of ISO 4217") from None
    if purchase.exchange_rate is None:
        reason = f"is missing: {purchase.currency} amounts need their rate into {program.currency}"
        raise Poison("data.exchange_rate", reason)


def _texts_pass(columns: Columns) -> bool:
    """Whether no line's text can be wrong: one look at all of them together, true for nearly all."""
    ids, skus = columns.line_ids, columns.skus
    if len(set(ids)) != len(ids) or "" in ids:
        return False
    text = "".join(ids) + "".join(skus)
    if not text.isprintable():
        return False
    if len(text) > ID_CHARS_MAX and max(map(len, chain(ids, skus))) > ID_CHARS_MAX:
        return False
    return "\0" not in "".join(columns.names) and "\0" not in "".join(columns.categories)


def _numbers_pass(columns: Columns) -> bool:
    """Whether no line's number can be wrong: none is negative, and their sum is within all bounds.

    A sum of numbers from 0 is at least as large, and has at least as many decimals, as any of them.
    """
    numbers = columns.quantities + columns.prices
    numbers += columns.discounts
    numbers += columns.taxes
    try:
        if min(numbers) < 0:
            return False
        total = sum(numbers, ZERO)
        return total < NUMBER_MAX and not total.scaleb(DECIMALS_MAX) % 1
    except ArithmeticError:
        return False


def _check_lines(lines: list[Line]) -> None:
    seen: dict[str, int] = {}
    for index, line in enumerate(lines):
        path = f"data.lines[{index}]"
        check_id(line.line_id, f"{path}.line_id")
        if line.line_id in seen:
            reason = f"{line.line_id!r} is already the id of data.lines[{seen[line.line_id]}]"
            raise Poison(f"{path}.line_id", reason)
        seen[line.line_id] = index
        check_text(line.sku, f"{path}.sku")
        for field, text in (("name", line.name), ("category", line.category)):
            if "\0" in text:
                raise Poison(f"{path}.{field}", "contains a NUL character")
        check_number(line.quantity, f"{path}.quantity", negative=False)
        check_number(line.unit_price, f"{path}.unit_price", negative=True)
        check_number(line.discount, f"{path}.discount", negative=False)
        check_number(line.tax, f"{path}.tax", negative=False)


def check_id(text: str, field: str) -> None:
    """Refuse an id that is empty, or no short printable text."""
    if not text:
        raise Poison(field, "is empty")
    check_text(text, field)


def check_text(text: str, field: str) -> None:
    """Refuse a text that is too long, or holds control characters."""
    if len(text) > ID_CHARS_MAX:
        raise Poison(field, f"has {len(text)} characters, more than {ID_CHARS_MAX}")
    # What Python calls printable holds no control character; the rest, such as a no-break space, is looked at.
    if not text.isprintable() and (found := _UNPRINTABLE.search(text)):
        raise Poison(field, f"contains the control character U+{ord(found[0]):04X}")


def check_number(value: Decimal, field: str, *, negative: bool) -> None:
    """Refuse what no till prints: infinite, out of range, finer than 9 decimals, negative unless it may be."""
    if not value.is_finite():
        raise Poison(field, f"{value} is not a number")
    if not -NUMBER_MAX < value < NUMBER_MAX:
        raise Poison(field, f"{_shown(str(value))} is out of range: it must stay below 10^12")
    if value < 0 and not negative:
        raise Poison(field, f"{value} is negative")
    if _decimals(value) > DECIMALS_MAX:
        raise Poison(field, f"{_shown(str(value))} has more than {DECIMALS_MAX} decimals")


def _decimals(value: Decimal) -> int:
    """Count the decimals a value needs: trailing zeros are none."""
    try:
        return max(0, -_exponent(value.normalize(EXACT)))
    except Inexact:
        return EXACT.prec


def _exponent(finite: Decimal) -> int:
    return cast("int", finite.as_tuple().exponent)


def _shown(text: str) -> str:
    """Quote what was sent, never more of it than a line holds."""
    return ascii(text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…")
