"""Every kind of bad event is refused with the field that is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from shared.contracts import purchases
from shared.contracts.purchases import PurchaseCompleted
from shared.errors import Poison
from shared.events.decode import Decoder
from shared.events.model import Event, Route, Work
from tests.fixtures.events import event, line, purchase, record


async def handler(_: Work, __: Sequence[Event[Any]]) -> None:
    """Never called here."""


DECODE = Decoder(
    purchases.TOPIC,
    [Route(purchases.TOPIC, purchases.COMPLETED, PurchaseCompleted, handler)],
    frozenset({"treue.ignored.v1"}),
)


def without(value: dict[str, Any], *path: str) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(value))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copy


GOOD = event(purchase())
BAD: list[tuple[str, Any, str, str]] = [
    ("no value", None, "", "no value"),
    ("empty", b"", "", "no value"),
    ("broken JSON", b'{"id":', "", "truncated"),
    ("not an object", b"[1]", "", "Expected `object`"),
    ("bad UTF-8", b'{"id":"\xff"}', "", ""),
    ("nested without end", b'{"x":' + b"[" * 100_000, "", ""),
    ("one MB", b'{"x":"' + b"a" * 1_000_000 + b'"}', "", "at most 262144"),
    ("no id", without(GOOD, "id"), "id", "missing"),
    ("no source", without(GOOD, "source"), "source", "missing"),
    ("no type", without(GOOD, "type"), "type", "missing"),
    ("no data", without(GOOD, "data"), "data", "missing"),
    ("empty id", GOOD | {"id": ""}, "id", "empty"),
    ("long id", GOOD | {"id": "x" * 10_000}, "id", "10000 characters"),
    ("NUL in id", GOOD | {"id": "a\x00b"}, "id", "NUL"),
    ("other version", GOOD | {"specversion": "0.3"}, "specversion", "1.0"),
    ("unknown type", GOOD | {"type": "treue.purchase.eaten.v1"}, "type", "unknown type"),
    ("no order", event(without(purchase(), "order_id"), "e"), "data.order_id", "missing"),
    ("no lines", event(without(purchase(), "lines")), "data.lines", "missing"),
    ("number as id", event(purchase(order=7), "e"), "data.order_id", "Expected `str`"),  # type: ignore[arg-type]
    (
        "word as quantity",
        event(purchase(lines=[line(), line(2, quantity="six")])),
        "data.lines[1].quantity",
        "",
    ),
    ("unknown kind", event(purchase(lines=[line(kind="bribe")])), "data.lines[0].kind", "bribe"),
    ("not a date", event(purchase(at="yesterday")), "data.occurred_at", "RFC3339"),
    ("data is text", GOOD | {"data": "x"}, "data", "Expected `object`"),
]


@pytest.mark.parametrize(
    ("value", "field", "reason"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
def test_bad_event_names_its_field(value: Any, field: str, reason: str) -> None:
    with pytest.raises(Poison) as caught:
        DECODE(record(value))
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_structured_event() -> None:
    found = DECODE(record(GOOD))
    assert found is not None
    assert found.id == "event-o1"
    assert found.data.lines[0].unit_price == Decimal("10.00")


def test_binary_event_is_the_same_event() -> None:
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"event-o1"),
        ("ce_source", b"/shops/online-retail"),
        ("ce_type", purchases.COMPLETED.encode()),
        ("content-type", b"application/json"),
    ]
    binary = DECODE(record(GOOD["data"], headers=headers))
    structured = DECODE(record(GOOD))
    assert binary is not None
    assert structured is not None
    assert (binary.key, binary.data) == (structured.key, structured.data)


def test_binary_event_without_id_is_refused() -> None:
    with pytest.raises(Poison, match="ce_id: is missing"):
        DECODE(record(GOOD["data"], headers=[("ce_type", b"x"), ("ce_specversion", b"1.0")]))


def test_ignored_type_is_no_mistake() -> None:
    assert DECODE(record(GOOD | {"type": "treue.ignored.v1"})) is None


def test_numbers_are_read_exactly_as_written() -> None:
    raw = json.dumps(GOOD).replace('"10.00"', "0.1000000000000000055511151231257827")
    found = DECODE(record(raw.encode()))
    assert found is not None
    assert str(found.data.lines[0].unit_price) == "0.1000000000000000055511151231257827"
