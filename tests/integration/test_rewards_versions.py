"""Vouchers have the terms of the version of the program in force when their level was reached."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.rewards.domain.terms import terms_from_json
from shared.contracts import rewards
from shared.db import pool as pools
from shared.program import versions
from tests.integration.test_rewards_service import Rewards, tier_event
from tests.unit.rewards.given import RULES, at, move

pytestmark = pytest.mark.servers

APPLIED, OCTOBER, NOVEMBER = at("2026-09-01"), at("2026-10-01"), at("2026-11-01")
FIRST = RULES.format(
    timezone="Europe/London",
    valid_for="P90D",
    silver="ten",
    gold="cash, ship",
    currency="GBP",
    top="gold",
)
# From October on a fifth for a month, from November on no free shipping with gold.
SECOND = FIRST.replace('percent: "10.0", valid_for: P90D', 'percent: "20", valid_for: P30D')
THIRD = SECOND.replace("on_reach: [cash, ship]", "on_reach: [cash]").replace('"25"', '"30"')


@pytest.fixture
async def service(rewards_db: str, tmp_path: Path) -> AsyncIterator[Rewards]:
    """The service under a program with two later versions, of which the last comes while it runs."""
    file = tmp_path / "program.yaml"
    file.write_text(FIRST, encoding="utf-8")
    apply(tmp_path, SECOND, "2026-10-01")
    pool = await pools.create(rewards_db, name="test", size=4)
    found = Rewards(pool, versions.load(file, tmp_path / "program.d"))
    apply(tmp_path, THIRD, "2026-11-01")
    yield found
    await pool.close()


def apply(folder: Path, text: str, since: str) -> None:
    draft = folder / "new.yaml"
    draft.write_text(text, encoding="utf-8")
    program = versions.load(folder / "program.yaml")
    versions.apply(folder / "program.d", program, draft, at(since), APPLIED)


async def given(service: Rewards) -> dict[tuple[str, str], tuple[Decimal | None, Any]]:
    """What each voucher that has a cause is worth, and until when."""
    rows = await service.pool.fetch(
        "SELECT cause_id, definition, terms, expires_at FROM vouchers WHERE state <> 'revoked'"
    )
    return {
        (row["cause_id"], row["definition"]): (
            terms_from_json(row["terms"]).value,
            row["expires_at"] and row["expires_at"].date().isoformat(),
        )
        for row in rows
    }


async def test_a_voucher_is_what_it_was_when_the_level_was_reached(service: Rewards) -> None:
    silver, gold = move("silver", "2026-09-30T22:59:59"), move("gold", "2026-10-01T00:00:00")
    again = move("silver", "2026-10-31T23:59:59", reach=2)
    last = move("gold", "2026-11-01T00:00:00", reach=2)
    await service.told("c", 1, silver, gold, again, last)
    assert await given(service) == {
        ("silver#1", "ten"): (Decimal(10), "2026-12-30"),
        ("gold#1", "cash"): (Decimal("25.00"), None),
        ("gold#1", "ship"): (None, "2026-11-01"),
        ("silver#2", "ten"): (Decimal(20), "2026-12-01"),
        ("gold#2", "cash"): (Decimal("30.00"), None),
    }
    rows = await service.pool.fetch(
        "SELECT cause_id, program_version FROM claims ORDER BY cause_id"
    )
    rules = service.rules
    assert [tuple(row) for row in rows] == [
        ("gold#1", rules.at(OCTOBER).version),
        ("gold#2", rules.at(NOVEMBER).version),
        ("silver#1", rules.version),
        ("silver#2", rules.at(OCTOBER).version),
    ]
    assert await service.violations() == []


async def test_a_cause_that_moves_into_another_version_s_time_is_decided_by_that(
    service: Rewards,
) -> None:
    await service.told("c", 1, move("gold", "2026-11-05T00:00:00"))
    assert await given(service) == {("gold#1", "cash"): (Decimal("30.00"), None)}
    ids = await service.pool.fetch("SELECT voucher_id FROM vouchers")
    await service.published()
    # A late purchase: gold was reached in October already.
    await service.told("c", 2, move("gold", "2026-10-05T00:00:00"))
    assert await given(service) == {
        ("gold#1", "cash"): (Decimal("25.00"), None),
        ("gold#1", "ship"): (None, "2026-11-05"),
    }
    told = [(one["type"], one["data"]["value"]) for one in await service.published()]
    assert sorted(told, key=str) == [
        (rewards.VOUCHER_ISSUED, "25.00"),
        (rewards.VOUCHER_ISSUED, None),
    ]
    # It is the same voucher, with the same code.
    assert ids[0] in await service.pool.fetch("SELECT voucher_id FROM vouchers")
    assert await service.violations() == []
    # And back: what only the other version gave is taken back.
    await service.told("c", 3, move("gold", "2026-11-05T00:00:00"))
    assert await given(service) == {("gold#1", "cash"): (Decimal("30.00"), None)}
    claims = await service.pool.fetch("SELECT claim, definitions FROM claims ORDER BY claim")
    assert [tuple(row) for row in claims] == [
        (1, ["cash"]),
        (2, ["cash", "ship"]),
        (3, ["cash"]),
    ]
    assert await service.violations() == []


async def test_a_used_voucher_keeps_its_cause_as_it_was_decided(service: Rewards) -> None:
    await service.told("c", 1, move("gold", "2026-11-05T00:00:00"))
    await service.pool.execute("UPDATE vouchers SET state = 'redeemed'")
    await service.told("c", 2, move("gold", "2026-10-05T00:00:00"))
    assert await given(service) == {("gold#1", "cash"): (Decimal("30.00"), None)}
    assert await service.violations() == []


@pytest.mark.parametrize("seed", range(3))
async def test_the_order_of_what_tiers_told_decides_nothing(service: Rewards, seed: int) -> None:
    days = ("2026-09-15", "2026-10-05", "2026-11-05")
    ways = [
        [move("silver", f"{day}T10:00:00"), move("gold", f"{other}T10:00:00")]
        for day in days
        for other in days
        if day < other
    ]
    told = [tier_event("c", number, *way) for number, way in enumerate(ways, start=1)]
    stirred = told + told[:-1]
    random.Random(seed).shuffle(stirred)
    await service.hears(*stirred, as_batches_of=1)
    found = await given(service)
    assert len(found) >= 2
    await service.hears(tier_event("other", 1, *ways[-1]))
    rows = await service.pool.fetch(
        "SELECT cause_id, definition, terms, issued_at FROM vouchers JOIN accounts USING (account_id)"
        " WHERE customer_id = 'other'"
    )
    alone = {(row["cause_id"], row["definition"]) for row in rows}
    assert found.keys() == alone
    for row in rows:
        value = terms_from_json(row["terms"]).value
        assert found[row["cause_id"], row["definition"]][0] == value
    assert await service.violations() == []
