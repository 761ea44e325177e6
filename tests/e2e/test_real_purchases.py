"""The real purchases and cancellations, from the shop to the partner's app, against numbers worked out aside."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import date, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest

from shared import clock
from shared.program import Program
from tests.e2e import oracle
from tests.fixtures import retail
from tests.fixtures.story import Story, story

pytestmark = [pytest.mark.stack, pytest.mark.servers, pytest.mark.timeout(600)]

ASKED = (0, 1, 2)
AT_ONCE = 12
STREAMS = 3


@pytest.fixture(scope="module")
def tale(
    tmp_path_factory: pytest.TempPathFactory, program: Program, database: Callable[[str], str]
) -> Iterator[Story]:
    with story(tmp_path_factory.mktemp("e2e") / "stack", program, database) as one:
        yield one


@pytest.fixture(scope="module")
def yesterday() -> date:
    return (clock.now().astimezone(oracle.LONDON) - timedelta(days=1)).date()


@pytest.fixture(scope="module")
def recent(yesterday: date) -> dict[str, oracle.Customer]:
    """The customers that are asked for one by one, as if the last purchase had been yesterday.

    Whoever only cancelled something has an account in points, and nothing else anywhere.
    """
    wanted = {sale.customer for sale in retail.sales() if sale.part in ASKED}
    moved = yesterday - oracle.last_day(retail.CSV)
    everybody = oracle.customers(retail.CSV, moved)
    return {who: one for who, one in everybody.items() if who in wanted and one.purchases}


class Api:
    """What a partner's app sees."""

    def __init__(self, client: httpx2.AsyncClient, stack: dict[str, Any]) -> None:
        self._client = client
        self._stack = stack
        self._places = asyncio.Semaphore(AT_ONCE)

    async def get(self, service: str, path: str, **query: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._stack['api_key']}"}
        async with self._places:
            answer = await self._client.get(
                f"{self._stack[f'{service}_url']}{path}", params=query, headers=headers
            )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@asynccontextmanager
async def asking(tale: Story) -> AsyncIterator[Api]:
    async with httpx2.AsyncClient(timeout=30) as client:
        yield Api(client, tale.stack.json())


def instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def test_purchases_and_cancellations_are_published_in_order(tale: Story, yesterday: date) -> None:
    lines = retail.part(*ASKED, shift_to=yesterday.isoformat())
    tale.told(lines)
    tale.stack.publish(lines)
    tale.holds()


async def test_every_balance_tier_and_voucher_is_the_expected_one(
    tale: Story, recent: dict[str, oracle.Customer]
) -> None:
    now = clock.now()
    assert len(recent) > 600
    async with asking(tale) as api:
        for at in (None, now - timedelta(days=170)):
            await asyncio.gather(
                *(check_points(api, who, at, at or now) for who in recent.values())
            )
            await asyncio.gather(*(check_tier(api, who, at, at or now) for who in recent.values()))
        await asyncio.gather(*(check_vouchers(api, who, now) for who in recent.values()))


async def check_points(api: Api, who: oracle.Customer, at: datetime | None, now: datetime) -> None:
    query = {"at": at.isoformat()} if at else {}
    told = await api.get("points", f"/v1/customers/{who.id}/balance", **query)
    lots = oracle.lots(who, now)
    live = [lot for lot in lots if lot.available_at <= now < lot.expires_at]
    assert told["available"] == sum(lot.points for lot in live), who
    assert told["lifetime_earned"] == sum(lot.granted for lot in lots), who
    assert (told["pending"], told["held"], told["deficit"]) == (0, 0, 0)
    ends = [lot.expires_at for lot in live if lot.points]
    expected = (
        (sum(lot.points for lot in live if lot.expires_at == min(ends)), min(ends))
        if ends
        else None
    )
    following = told["expiring_next"]
    assert expected == (following and (following["points"], instant(following["expires_at"])))


async def check_tier(api: Api, who: oracle.Customer, at: datetime | None, now: datetime) -> None:
    query = {"at": at.isoformat()} if at else {}
    told = await api.get("tiers", f"/v1/customers/{who.id}/tier", **query)
    found = oracle.standing(who, now)
    level = oracle.LEVELS[found.level]
    assert told["tier"]["id"] == level[0], who
    assert told["tier"]["multiplier"] == str(level[2])
    assert instant(told["since"]) == found.since, who
    assert instant(told["valid_until"]) == found.valid_until, who
    assert instant(told["grace_until"]) == found.grace_until, who
    amount = oracle.earned_in_the_year_to(who, instant(told["as_of"]) or now, known=now)
    assert told["qualifying"]["amount"] == amount, who
    following = told["next_tier"]
    if found.level + 1 < len(oracle.LEVELS):
        above = oracle.LEVELS[found.level + 1]
        assert (following["id"], following["missing"]) == (above[0], max(0, above[1] - amount))
    else:
        assert following is None


async def check_vouchers(api: Api, who: oracle.Customer, now: datetime) -> None:
    told = await api.get("rewards", f"/v1/customers/{who.id}/vouchers", limit="100")
    expected = oracle.vouchers(who, now)
    assert not told["has_more"]
    assert len({voucher["code"] for voucher in told["data"]}) == len(expected)
    found = [
        {name: voucher[name] for name in ("voucher", "kind", "value", "state", "cause")}
        | {name: instant(voucher[name]) for name in ("issued_at", "expires_at")}
        for voucher in told["data"]
    ]
    assert by_cause(found) == by_cause(expected), who


def by_cause(vouchers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(vouchers, key=lambda voucher: (voucher["cause"]["id"], voucher["voucher"]))


async def test_entries_add_up_and_explain_themselves(
    tale: Story, recent: dict[str, oracle.Customer]
) -> None:
    busiest = sorted(recent.values(), key=lambda who: -len(who.purchases))[:5]
    async with asking(tale) as api:
        for who in busiest:
            entries: list[dict[str, Any]] = []
            cursor: dict[str, str] = {}
            while True:
                page = await api.get("points", f"/v1/customers/{who.id}/entries", **cursor)
                entries += page["data"]
                if not page["has_more"]:
                    break
                cursor = {"cursor": page["next_cursor"]}
            assert {entry["order_id"] for entry in entries} == {p.order for p in who.purchases}
            assert sum(entry["points"] for entry in entries) == entries[0]["balance_after"]
            told_of_time = [e for e in entries if e["kind"] in {"expired", "unlocked"}]
            lots = oracle.lots(who, clock.now())
            earned = sum(entry["points"] for entry in entries if entry not in told_of_time)
            assert earned == sum(lot.points for lot in lots)
            taken = sum(entry["points"] for entry in entries if entry["kind"] == "clawed_back")
            assert taken == sum(lot.points - lot.granted for lot in lots)
            newest = entries[0]["id"]
            told = await api.get("points", f"/v1/entries/{newest}/explanation")
            assert told["customer_id"] == who.id


async def test_the_rest_of_the_year_shuffled_twice_in_three_streams(
    tale: Story, recent: dict[str, oracle.Customer]
) -> None:
    """The full data: state as in order and once, totals as the oracle has them, nothing violated."""
    rest = [number for number in range(retail.PARTS) if number not in ASKED]
    lines = retail.part(*rest)
    twice = lines * 2
    random.Random(11).shuffle(twice)
    await asyncio.to_thread(publish_in_streams, tale, twice)
    await asyncio.to_thread(tale.told, lines)
    await asyncio.to_thread(tale.holds)
    await asyncio.to_thread(tale.stack.verify)
    everybody = oracle.customers(retail.CSV) | recent
    expected = {
        who: sum(lot.points for lot in oracle.lots(customer, clock.now()))
        for who, customer in everybody.items()
    }
    assert await balances(tale) == expected


async def test_every_cancellation_is_accounted_for(tale: Story) -> None:
    found = Counter(await states(tale))
    assert found == oracle.states(retail.CSV)
    assert found.total() == 3_836
    print(", ".join(f"{count:,} {state}" for state, count in found.most_common()))  # noqa: T201


def publish_in_streams(tale: Story, lines: list[bytes]) -> None:
    with ExitStack() as streams:
        for number in range(STREAMS):
            streams.enter_context(tale.stack.publishing(lines[number::STREAMS]))


async def balances(tale: Story) -> dict[str, int]:
    conn = await asyncpg.connect(tale.stack.json()["postgres"]["points"])
    try:
        rows = await conn.fetch(
            "SELECT a.customer_id, coalesce(sum(e.points), 0)::bigint AS points FROM accounts a"
            " LEFT JOIN entries e ON e.account_id = a.account_id AND e.kind NOT IN ('expired', 'unlocked')"
            " GROUP BY a.customer_id"
        )
    finally:
        await conn.close()
    return {row["customer_id"]: row["points"] for row in rows}


async def states(tale: Story) -> list[str]:
    conn = await asyncpg.connect(tale.stack.json()["postgres"]["points"])
    try:
        return [row["state"] for row in await conn.fetch("SELECT state FROM refund_outcomes")]
    finally:
        await conn.close()
