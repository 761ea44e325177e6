"""The real data set as events: small files for every case, then the whole of it."""

from __future__ import annotations

import io
import json
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from shared.cli.files import open_text
from shared.cli.online_retail import (
    ADJUSTMENT,
    NOTHING_BACK,
    RETURNED,
    SOURCE,
    STOCK,
    Account,
    Reader,
    event_id,
    events,
    kind,
    shift,
)
from shared.contracts.envelope import EVENT_BYTES_MAX, Incoming
from shared.contracts.purchases import COMPLETED, REFUNDED, PurchaseCompleted, PurchaseRefunded
from shared.errors import UsageError
from shared.stack.layout import checkout

HEAD = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
DATA = checkout() / "data" / "online_retail.csv.gz"


def convert(*rows: str, to: date | None = None) -> tuple[list[dict[str, Any]], Account]:
    reader = Reader("some.csv")
    invoices = reader.read(io.StringIO(HEAD + "".join(f"{row}\n" for row in rows), newline=""))
    by = shift(invoices, to) if to is not None else timedelta(0)
    return [json.loads(line) for line in events(invoices, reader.account, by)], reader.account


def row(
    invoice: str = "536365",
    sku: str = "85123A",
    quantity: str = "6",
    at: str = "2010-12-01 08:26:00",
    price: str = "2.55",
    customer: str = "17850",
    name: str = "WHITE HANGING HEART",
) -> str:
    return f"{invoice},{sku},{name},{quantity},{at},{price},{customer},United Kingdom"


def test_an_invoice_is_one_event() -> None:
    found, account = convert(row(), row(sku="71053", price="3.39"), row(sku="POST", price="18.0"))
    assert len(found) == 1
    event = found[0]
    assert {name: event[name] for name in ("specversion", "source", "type", "subject", "time")} == {
        "specversion": "1.0",
        "source": SOURCE,
        "type": COMPLETED,
        "subject": "536365",
        "time": "2010-12-01T08:26:00Z",
    }
    data = event["data"]
    assert data["order_id"] == "536365"
    assert data["customer_id"] == "17850"
    assert data["occurred_at"] == event["time"]
    assert data["total"] == "143.64"
    assert data["prices_include_tax"] is True
    assert data["metadata"] == {"country": "United Kingdom"}
    assert data["lines"][0] == {
        "line_id": "1",
        "sku": "85123A",
        "name": "WHITE HANGING HEART",
        "category": "home",
        "kind": "product",
        "quantity": "6",
        "unit_price": "2.55",
        "discount": "0.00",
        "tax": "0.00",
    }
    assert [line["line_id"] for line in data["lines"]] == ["1", "2", "3"]
    assert (data["lines"][2]["kind"], data["lines"][2]["category"]) == ("shipping", "")
    assert (account.purchases, account.purchase_lines, account.customers) == (1, 3, {"17850"})


def test_ids_are_a_function_of_the_invoice() -> None:
    (one, two), _ = convert(row(), row("536366"))
    ((again, _), _) = convert(row(at="2011-05-05 10:00:00"), row("536366"))
    assert one["id"] == event_id("536365") != two["id"]
    assert again["id"] in {one["id"], two["id"]}


@pytest.mark.parametrize(
    ("sku", "expected"),
    [
        ("85123A", "product"),
        ("POST", "shipping"),
        ("DOT", "shipping"),
        ("C2", "shipping"),
        ("BANK CHARGES", "fee"),
        ("AMAZONFEE", "fee"),
        ("CRUK", "fee"),
        ("gift_0001_20", "gift_card"),
        ("M", "product"),
        ("S", "product"),
    ],
)
def test_kinds(sku: str, expected: str) -> None:
    assert kind(sku) == expected


def test_a_guest_has_no_customer() -> None:
    (event,), account = convert(row(customer=""))
    assert "customer_id" not in event["data"]
    assert (account.guests, account.guest_lines, len(account.customers)) == (1, 1, 0)


def test_a_cancellation_is_one_refund_without_an_order() -> None:
    (event,), account = convert(
        row("C536379", quantity="-1", sku="D", at="2010-12-01 09:41:00"),
        row("C536379", quantity="-12", at="2010-12-01 09:41:00"),
    )
    assert {name: event[name] for name in ("id", "source", "type", "subject", "time")} == {
        "id": event_id("C536379"),
        "source": SOURCE,
        "type": REFUNDED,
        "subject": "C536379",
        "time": "2010-12-01T09:41:00Z",
    }
    assert event["data"] == {
        "refund_id": "C536379",
        "order_id": None,
        "customer_id": "17850",
        "currency": "GBP",
        "occurred_at": "2010-12-01T09:41:00Z",
        "lines": [{"sku": "D", "quantity": "1"}, {"sku": "85123A", "quantity": "12"}],
        "reason": "cancellation",
        "metadata": {"country": "United Kingdom"},
    }
    assert (account.cancellations, account.cancelled_lines) == (1, 2)
    assert (account.purchases, account.customers, account.left_out) == (0, set(), {})


def test_a_guest_may_cancel() -> None:
    (event,), account = convert(row("C1", quantity="-1", customer=""))
    assert "customer_id" not in event["data"]
    assert (account.cancellations, account.guest_cancellations, account.guests) == (1, 1, 0)


def test_cancellations_keep_their_place_among_purchases() -> None:
    found, _ = convert(
        row("1", at="2011-01-10 10:05:00"),
        row("C2", quantity="-1", at="2011-01-10 10:05:00"),
        row("3", at="2011-01-10 10:05:00"),
        to=date(2026, 11, 21),
    )
    assert [event["subject"] for event in found] == ["1", "C2", "3"]
    assert {event["time"] for event in found} == {"2026-11-21T10:05:00Z"}


def test_a_shift_goes_by_the_last_purchase() -> None:
    found, account = convert(
        row("1", at="2011-01-10 10:00:00"),
        row("C2", quantity="-1", at="2011-01-12 10:00:00"),
        to=date(2026, 11, 21),
    )
    assert [event["time"][:10] for event in found] == ["2026-11-21", "2026-11-23"]
    assert account.first == account.last


def test_what_is_left_out_is_counted() -> None:
    found, account = convert(
        row("C536379", quantity="0", sku="D"),
        row("A563185", sku="B", quantity="1", price="11062.06", customer=""),
        row("A563186", sku="B", quantity="1", price="-11062.06", customer=""),
        row("536589", quantity="-10", price="0.0", customer="", name=""),
        row("536590", quantity="-1"),
        row("536591", price="-1.00"),
        row("536592", price="0.0"),
    )
    assert [event["data"]["order_id"] for event in found] == ["536592"]
    assert {why: (t.lines, len(t.invoices)) for why, t in account.left_out.items()} == {
        NOTHING_BACK: (1, 1),
        ADJUSTMENT: (3, 3),
        STOCK: (1, 1),
        RETURNED: (1, 1),
    }
    assert account.zero_price_lines == 1
    assert (account.lines, account.invoices) == (7, 7)


def test_the_first_timestamp_counts_and_events_come_in_order() -> None:
    found, _ = convert(
        row("1", at="2011-01-10 10:05:00"),
        row("2", at="2011-01-10 10:04:00"),
        row("1", at="2011-01-10 10:03:00"),
    )
    assert [(e["data"]["order_id"], e["time"]) for e in found] == [
        ("1", "2011-01-10T10:03:00Z"),
        ("2", "2011-01-10T10:04:00Z"),
    ]


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2011-01-04 10:00:00", "2011-01-04T10:00:00Z"),
        ("2011-07-04 10:00:00", "2011-07-04T09:00:00Z"),
        # 27 March 2011: 01:00 to 02:00 is skipped; 30 October: it comes twice, the first is meant.
        ("2011-03-27 01:30:00", "2011-03-27T01:30:00Z"),
        ("2011-10-30 01:30:00", "2011-10-30T00:30:00Z"),
        ("2011-10-30 02:30:00", "2011-10-30T02:30:00Z"),
    ],
)
def test_wall_clock_times_of_the_united_kingdom(local: str, utc: str) -> None:
    (event,), _ = convert(row(at=local))
    assert event["time"] == utc


def test_a_shift_keeps_the_clock_and_moves_the_last_purchase_to_the_day() -> None:
    found, account = convert(
        row("1", at="2011-07-01 10:00:00"),
        row("2", at="2011-12-09 12:50:00"),
        to=date(2026, 11, 21),
    )
    assert [event["time"] for event in found] == ["2026-06-13T09:00:00Z", "2026-11-21T12:50:00Z"]
    assert account.last is not None
    assert account.last.date() == date(2026, 11, 21)


def test_a_shift_out_of_the_calendar_is_refused() -> None:
    with pytest.raises(UsageError, match="out of the calendar"):
        convert(
            row("1", at="2010-01-01 10:00:00"),
            row("2", at="2011-12-09 12:50:00"),
            to=date(1, 1, 2),
        )


def test_odd_texts_survive_as_json() -> None:
    (event,), _ = convert(row(name='"A ""quoted"", £20\tname\\ "', sku="gift_0001_20"))
    line = event["data"]["lines"][0]
    assert line["name"] == 'A "quoted", £20\tname\\'
    assert line["kind"] == "gift_card"


def test_prices_keep_what_they_say() -> None:
    (event,), _ = convert(row(price="0.001", quantity="1"), row(price="15.0"), row(price="1E+1"))
    prices = [line["unit_price"] for line in event["data"]["lines"]]
    assert prices == ["0.001", "15.00", "10.00"]
    assert event["data"]["total"] == "150.00"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("536366,85123A,NAME,6", "line 3: expected 8 columns, found 4"),
        (row(quantity="six"), "line 3: Quantity 'six'"),
        (row(quantity="99999999999"), "line 3: Quantity"),
        (row(price="2,55").replace("2,55", '"2,55"'), "line 3: UnitPrice '2,55'"),
        (row(price="NaN"), "line 3: UnitPrice 'NaN'"),
        (row(price="1E+30"), "line 3: UnitPrice"),
        (row("7", at="yesterday"), "line 3: InvoiceDate 'yesterday'"),
        (row("7", at="2011-01-01T10:00:00+01:00"), "line 3: InvoiceDate"),
        (row(""), "line 3: InvoiceNo is empty"),
        (row(sku=" "), "line 3: StockCode is empty"),
        (row(customer="999"), "line 3: invoice 536365 belongs to customer 17850"),
    ],
)
def test_a_bad_row_is_named_with_its_line(bad: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        convert(row(), bad)
    assert f"some.csv, {says}" in str(raised.value)


def test_another_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"line 1: expected the columns InvoiceNo.*found a,b"):
        Reader("some.csv").read(io.StringIO("a,b\n1,2\n"))
    with pytest.raises(UsageError, match="found nothing"):
        Reader("some.csv").read(io.StringIO(""))


def test_a_file_without_purchases_gives_none() -> None:
    found, account = convert(to=date(2026, 1, 1))
    assert found == []
    assert account.first is None


def test_the_whole_data_set() -> None:
    reader = Reader(DATA.name)
    with open_text(str(DATA)) as text:
        invoices = reader.read(text)
    envelope = msgspec.json.Decoder(Incoming)
    purchase, refund = (msgspec.json.Decoder(t) for t in (PurchaseCompleted, PurchaseRefunded))
    previous = ""
    total, units = Decimal(0), Decimal(0)
    for line in events(invoices, reader.account, timedelta(0)):
        assert len(line) <= EVENT_BYTES_MAX
        event = envelope.decode(line)
        data: Any
        if event.type == REFUNDED:
            data = refund.decode(bytes(event.data))
            units += sum(item.quantity for item in data.lines)
        else:
            data = purchase.decode(bytes(event.data))
            total += data.total
        time = data.occurred_at.isoformat()
        assert previous <= time
        previous = time
    account = reader.account
    assert (account.lines, account.invoices) == (541_909, 25_900)
    assert (account.purchases, account.purchase_lines) == (20_725, 531_282)
    assert (account.guests, account.guest_lines) == (2_189, 133_358)
    assert len(account.customers) == 4_339
    assert {why: (t.lines, len(t.invoices)) for why, t in account.left_out.items()} == {
        ADJUSTMENT: (3, 3),
        STOCK: (1_336, 1_336),
    }
    assert (account.cancellations, account.cancelled_lines) == (3_836, 9_288)
    assert account.guest_cancellations == 182
    left_out = sum(tally.lines for tally in account.left_out.values())
    assert account.lines == account.purchase_lines + account.cancelled_lines + left_out
    assert total == Decimal("10655622.48")
    assert units == 277_574
