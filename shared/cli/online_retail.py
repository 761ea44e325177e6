"""The Online Retail data set as CloudEvents: what a line becomes, and what is left out and why."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from json.encoder import encode_basestring
from zoneinfo import ZoneInfo

from shared.contracts.purchases import COMPLETED, REFUNDED, Kind
from shared.errors import UsageError
from shared.ids import derive

SOURCE = "/shops/online-retail"
ZONE = ZoneInfo("Europe/London")
COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
CENT = Decimal("0.01")
QUANTITY_MAX = 10**9

KINDS: dict[str, Kind] = {
    "POST": "shipping",
    "DOT": "shipping",
    "C2": "shipping",
    "BANK CHARGES": "fee",
    "AMAZONFEE": "fee",
    "CRUK": "fee",
}
GIFT_CARD_PREFIX = "gift_"
CATEGORY = "home"

CANCELLATION_PREFIX = "C"
NOTHING_BACK = "cancelled without a quantity"
ADJUSTMENT = "adjustment"
STOCK = "stock correction"
RETURNED = "returned line"


@dataclass(slots=True)
class Tally:
    """What was left out for one reason."""

    lines: int = 0
    invoices: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Account:
    """What was read, what became of it, and what was left out."""

    lines: int = 0
    invoices: int = 0
    purchases: int = 0
    guests: int = 0
    purchase_lines: int = 0
    guest_lines: int = 0
    zero_price_lines: int = 0
    cancellations: int = 0
    cancelled_lines: int = 0
    guest_cancellations: int = 0
    customers: set[str] = field(default_factory=set)
    left_out: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    first: datetime | None = None
    last: datetime | None = None


@dataclass(slots=True)
class Invoice:
    """One purchase or cancellation in the making; ``parts`` holds its lines as finished pieces of JSON."""

    number: str
    moment: datetime
    row: int
    customer: str
    country: str
    parts: list[tuple[str, str]] = field(default_factory=list)
    total: Decimal = Decimal(0)

    @property
    def cancels(self) -> bool:
        """Whether it takes back what others sold: which of them, the data set does not say."""
        return self.number.startswith(CANCELLATION_PREFIX)


class _Cached(dict[str, "datetime"]):
    """Local wall-clock times, parsed once: most lines share theirs with others."""

    def __missing__(self, text: str) -> datetime:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            raise ValueError(text)
        self[text] = moment
        return moment


class Reader:
    """Collects the lines of a file into purchases and cancellations; texts that repeat are built and kept once."""

    def __init__(self, name: str) -> None:
        self.account = Account()
        self._name = name
        self._invoices: dict[str, Invoice] = {}
        self._moments = _Cached()
        self._goods: dict[tuple[str, str], str] = {}
        self._amounts: dict[tuple[str, str], tuple[str, int, Decimal]] = {}
        self._numbers: set[str] = set()

    def read(self, text: Iterable[str]) -> list[Invoice]:
        """All purchases and cancellations of a CSV text, by the instant of their first line.

        Raises UsageError for the first row that makes no sense, with its line number.
        """
        rows = csv.reader(text)
        try:
            self._header(next(rows, []))
            for row in rows:
                if row:
                    self._row(row, rows.line_num)
        except (csv.Error, UnicodeDecodeError, EOFError, OSError) as error:
            raise self._mistake(rows.line_num + 1, f"cannot be read: {error}") from None
        self.account.invoices = len(self._numbers)
        return sorted(self._invoices.values(), key=lambda i: (_utc(i.moment), i.row))

    def _header(self, row: list[str]) -> None:
        if tuple(row) != COLUMNS:
            found = ",".join(row)[:200] or "nothing"
            raise self._mistake(1, f"expected the columns {','.join(COLUMNS)}; found {found}")

    def _row(self, row: list[str], line: int) -> None:
        if len(row) != len(COLUMNS):
            raise self._mistake(line, f"expected {len(COLUMNS)} columns, found {len(row)}")
        number, sku, name, quantity, moment, price, customer, country = row
        self.account.lines += 1
        self._numbers.add(number)
        try:
            tail, units, amount = self._amounts[quantity, price]
        except KeyError:
            tail, units, amount = self._amount(quantity, price, line)
        reason = left_out(number, units, amount, customer)
        if reason:
            tally = self.account.left_out[reason]
            tally.lines += 1
            tally.invoices.add(number)
            return
        try:
            local = self._moments[moment]
        except ValueError:
            raise self._mistake(
                line, f"InvoiceDate {moment[:50]!r} is no local time like 2010-12-01 08:26:00"
            ) from None
        invoice = self._invoice(number, local, customer, country, line)
        if invoice.cancels:
            invoice.parts.append((f'"sku":{_json(self._sku(sku, line))}', f'"quantity":"{-units}"'))
            return
        try:
            head = self._goods[sku, name]
        except KeyError:
            head = self._good(sku, name, line)
        invoice.parts.append((head, tail))
        invoice.total += amount
        if not amount:
            self.account.zero_price_lines += 1

    def _invoice(
        self, number: str, local: datetime, customer: str, country: str, line: int
    ) -> Invoice:
        """The invoice of a line. Some have two timestamps a minute apart: the first counts."""
        invoice = self._invoices.get(number)
        if invoice is None:
            if not number.strip():
                raise self._mistake(line, "InvoiceNo is empty")
            invoice = self._invoices[number] = Invoice(number, local, line, customer, country)
            return invoice
        invoice.moment = min(invoice.moment, local)
        if customer != invoice.customer and customer:
            if invoice.customer:
                owner = invoice.customer
                raise self._mistake(
                    line, f"invoice {number} belongs to customer {owner}, here it names {customer}"
                )
            invoice.customer = customer
        return invoice

    def _sku(self, sku: str, line: int) -> str:
        if not sku.strip():
            raise self._mistake(line, "StockCode is empty")
        return sku

    def _good(self, sku: str, name: str, line: int) -> str:
        what = kind(self._sku(sku, line))
        category = CATEGORY if what == "product" else ""
        names = f'"sku":{_json(sku)},"name":{_json(name.strip())}'
        head = f'{names},"category":"{category}","kind":"{what}"'
        self._goods[sku, name] = head
        return head

    def _amount(self, quantity: str, price: str, line: int) -> tuple[str, int, Decimal]:
        try:
            units = int(quantity)
        except ValueError:
            units = QUANTITY_MAX + 1
        if abs(units) > QUANTITY_MAX:
            raise self._mistake(line, f"Quantity {quantity[:50]!r} is no whole number in bounds")
        try:
            unit_price = Decimal(price)
        except InvalidOperation:
            unit_price = Decimal("NaN")
        if not unit_price.is_finite() or abs(unit_price) > QUANTITY_MAX:
            raise self._mistake(line, f"UnitPrice {price[:50]!r} is no decimal number in bounds")
        amounts = f'"quantity":"{units}","unit_price":"{_money(unit_price)}"'
        tail = f'{amounts},"discount":"0.00","tax":"0.00"'
        entry = self._amounts[quantity, price] = (tail, units, unit_price * units)
        return entry

    def _mistake(self, line: int, message: str) -> UsageError:
        return UsageError(f"{self._name}, line {line}: {message}")


def kind(sku: str) -> Kind:
    """What sort of line a stock code stands for; codes we do not know are goods."""
    if sku.startswith(GIFT_CARD_PREFIX):
        return "gift_card"
    return KINDS.get(sku, "product")


def left_out(number: str, units: int, amount: Decimal, customer: str) -> str:
    """Why a line is no part of a purchase or cancellation, or nothing if it is one."""
    if number.startswith(CANCELLATION_PREFIX):
        return NOTHING_BACK if units >= 0 else ""
    if number.startswith("A"):
        return ADJUSTMENT
    if units <= 0:
        return RETURNED if customer or amount else STOCK
    return ADJUSTMENT if amount < 0 else ""


def shift(invoices: Sequence[Invoice], last_day: date) -> timedelta:
    """By how many whole days all dates must move for the last purchase to fall on a day."""
    days = (invoice.moment.date() for invoice in invoices if not invoice.cancels)
    return last_day - max(days, default=last_day)


def events(invoices: Iterable[Invoice], account: Account, by: timedelta) -> Iterator[bytes]:
    """Purchases and cancellations as CloudEvents in order, moved by so many days; completes the account."""
    for invoice in invoices:
        try:
            instant = _utc(invoice.moment + by)
        except OverflowError:
            raise UsageError(
                f"--shift-to moves {invoice.moment} by {by.days} days, out of the calendar"
            ) from None
        _note(invoice, account, instant)
        yield (_refund if invoice.cancels else _purchase)(invoice, instant).encode()


def _note(invoice: Invoice, account: Account, instant: datetime) -> None:
    if invoice.cancels:
        account.cancellations += 1
        account.cancelled_lines += len(invoice.parts)
        account.guest_cancellations += not invoice.customer
        return
    account.first = min(account.first or instant, instant)
    account.last = max(account.last or instant, instant)
    account.purchases += 1
    account.purchase_lines += len(invoice.parts)
    if invoice.customer:
        account.customers.add(invoice.customer)
    else:
        account.guests += 1
        account.guest_lines += len(invoice.parts)


def event_id(number: str) -> str:
    """The id of an invoice's event, the same in every conversion."""
    return str(derive(SOURCE, number))


def _purchase(invoice: Invoice, instant: datetime) -> str:
    time = _time(instant)
    order = _json(invoice.number)
    lines = ",".join(
        [f'{{"line_id":"{n}",{head},{tail}}}' for n, (head, tail) in enumerate(invoice.parts, 1)]
    )
    return _event(
        invoice,
        COMPLETED,
        time,
        f'"order_id":{order},{_customer(invoice)}"currency":"GBP","occurred_at":"{time}",'
        f'"prices_include_tax":true,"order_discount":"0.00","shipping":"0.00",'
        f'"total":"{_money(invoice.total.quantize(CENT, ROUND_HALF_UP))}","lines":[{lines}],'
        f'"voucher_codes":[],"redemption_ids":[],"is_test":false',
    )


def _refund(invoice: Invoice, instant: datetime) -> str:
    """No order is named, for the data set names none: what came back is told by customer and stock code."""
    time = _time(instant)
    lines = ",".join([f"{{{head},{tail}}}" for head, tail in invoice.parts])
    return _event(
        invoice,
        REFUNDED,
        time,
        f'"refund_id":{_json(invoice.number)},"order_id":null,{_customer(invoice)}"currency":"GBP",'
        f'"occurred_at":"{time}","lines":[{lines}],"reason":"cancellation"',
    )


def _event(invoice: Invoice, event_type: str, time: str, content: str) -> str:
    return (
        f'{{"specversion":"1.0","id":"{event_id(invoice.number)}","source":"{SOURCE}",'
        f'"type":"{event_type}","subject":{_json(invoice.number)},"time":"{time}",'
        f'"datacontenttype":"application/json",'
        f'"data":{{{content},"metadata":{{"country":{_json(invoice.country)}}}}}}}\n'
    )


def _customer(invoice: Invoice) -> str:
    return f'"customer_id":{_json(invoice.customer)},' if invoice.customer else ""


def _time(instant: datetime) -> str:
    return f"{instant.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def _utc(local: datetime) -> datetime:
    """The instant of a wall-clock time in the United Kingdom.

    In the hour that comes twice the first one is meant; in the hour that is skipped, the offset
    before the skip counts: both are what ``zoneinfo`` does with ``fold=0``.
    """
    return local.replace(tzinfo=ZONE).astimezone(UTC)


def _money(value: Decimal) -> str:
    """At least two decimals, more only where they say something."""
    exponent = value.normalize().as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) else 0
    return f"{value:.{max(2, digits)}f}"


_json: Callable[[str], str] = encode_basestring
