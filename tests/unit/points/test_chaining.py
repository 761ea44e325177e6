"""What of an entry goes into the chain: the same for what is written and read back, and for nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from services.points.domain.chaining import digest, digests_of
from services.points.ledger import EntryRow

AT = datetime(2026, 5, 1, 10, 0, 0, 123456, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)
ENTRY = EntryRow(
    *(ONE, 1, 1, "earned", 12, 10, 2, 12, ONE, AT, AT, AT, None, "shop", "o1", TWO, "e1", 7),
    *(Decimal("10.50"), "21/2", "silver", "1.25", None, '{"k":"award"}'),
)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ({"net_spend": Decimal("1E+2")}, {"net_spend": Decimal(100)}),
        ({"net_spend": Decimal("0E+2")}, {"net_spend": Decimal(0)}),
        ({"net_spend": Decimal("-0.00")}, {"net_spend": Decimal("0.00")}),
        ({"net_spend": Decimal("-0.50")}, {"net_spend": Decimal("-0.50")}),
        ({"occurred_at": AT.astimezone(timezone(timedelta(hours=2)))}, {"occurred_at": AT}),
    ],
)
def test_what_postgresql_gives_back_has_the_digest_of_what_it_got(
    written: dict[str, Any], stored: dict[str, Any]
) -> None:
    assert digest(ENTRY._replace(**written)) == digest(ENTRY._replace(**stored))


@pytest.mark.parametrize("column", EntryRow._fields)
def test_every_column_counts(column: str) -> None:
    value = getattr(ENTRY, column)
    other: Any = {
        UUID: UUID(int=9), int: 99, str: "other", datetime: AT + timedelta(microseconds=1),
        Decimal: Decimal("10.51"), type(None): AT if column == "expires_at" else "other",
    }[type(value)]  # fmt: skip
    assert digest(ENTRY._replace(**{column: other})) != digest(ENTRY)


def test_columns_that_come_later_do_not_change_what_was_written_before() -> None:
    assert digest((*ENTRY, None, None)) == digest(ENTRY)
    assert digest((*ENTRY, None, "new")) != digest(ENTRY)


def test_a_link_is_cut_into_its_digests() -> None:
    several = [digest(ENTRY._replace(seq=seq)) for seq in range(3)]
    assert digests_of(b"".join(several)) == several
    assert digests_of(b"") == []
