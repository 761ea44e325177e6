"""The end state is a function of the set of events: through all three services, on real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared import program as programs
from shared.contracts.catalogue import CONSUMES
from shared.program import Program
from tests.fixtures.events import cancelled, event, purchase, refunded
from tests.fixtures.inprocess import NOW, System, system

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

Dsns = Mapping[str, str]
State = dict[str, list[tuple[Any, ...]]]

RULES = """
program: test
name: Test
currency: GBP
timezone: {zone}
earning:
  base: {{points: 1, per: "1.00"}}
  rounding: {rounding}
  available_after: {available_after}
  expiry: {{after: P12M, round_up: month_end}}
tiers:
  basis: {basis}
  window: {window}
  downgrade: {downgrade}
  grace: {grace}
  levels:
    - {{id: bronze, name: Bronze, threshold: 0, multiplier: "1"}}
    - {{id: silver, name: Silber, threshold: {silver}, multiplier: "1.25", on_reach: [ten, ship]}}
    - {{id: gold, name: Gold, threshold: {gold}, multiplier: "1.5", on_reach: [cash]}}
    - {{id: black, name: Schwarz, threshold: {black}, multiplier: "1.333", on_reach: [cash]}}
vouchers:
  ten: {{kind: percent, percent: "10", valid_for: P90D}}
  cash: {{kind: amount, amount: "25.00", valid_for: P90D}}
  ship: {{kind: free_shipping, valid_for: P30D}}
"""
THRESHOLDS = {"points": (500, 2000, 4000), "spend": (500, 2000, 4000), "purchases": (3, 6, 9)}
FIRST = datetime(2023, 1, 1, tzinfo=UTC)
DAYS = 3 * 365 + 60
CUSTOMERS = ("ada", "ben", "cleo")
# Around the thresholds, and such whose points with a multiplier are no whole numbers.
AMOUNTS = ("0.50", "9.99", "119.99", "250.00", "499.99", "500.00", "1000.01", "1500.00", "4000.00")

STATE = {
    "points": {
        "balances": "SELECT customer_id, balance FROM accounts WHERE seq > 0 ORDER BY customer_id",
        "lots": "SELECT a.customer_id, e.order_id, e.lot_id::text, sum(e.points)::bigint, e.available_at,"
        " e.expires_at FROM entries e JOIN accounts a USING (account_id)"
        " GROUP BY a.customer_id, e.order_id, e.lot_id, e.available_at, e.expires_at"
        " ORDER BY e.order_id, 1",
        "clawbacks": "SELECT e.order_id, e.event_id, e.occurred_at, sum(e.points)::bigint,"
        " sum(e.base)::bigint FROM entries e WHERE e.kind = 'clawed_back'"
        " GROUP BY 1, 2, 3 HAVING sum(e.points) <> 0 ORDER BY 1, 2",
        "refunds": "SELECT r.event_id, o.state, o.code, o.points FROM refunds r"
        " JOIN refund_outcomes o USING (refund_key) ORDER BY 1",
    },
    "tiers": {"timelines": "SELECT customer_id, timeline::text FROM accounts ORDER BY customer_id"},
    "rewards": {
        "vouchers": "SELECT a.customer_id, v.voucher_id::text, v.cause_id, v.definition, v.state,"
        " v.issued_at, v.expires_at FROM vouchers v JOIN accounts a USING (account_id)"
        " WHERE v.state <> 'revoked' ORDER BY 1, 3, 4"
    },
}


@st.composite
def program_texts(draw: st.DrawFn) -> str:
    basis = draw(st.sampled_from(("points", "points", "spend", "purchases")))
    silver, gold, black = THRESHOLDS[basis]
    return RULES.format(
        zone=draw(st.sampled_from(("Europe/London", "Europe/Berlin", "Pacific/Apia"))),
        rounding=draw(st.sampled_from(("floor", "half_even", "ceil"))),
        available_after=draw(st.sampled_from(("P0D", "P14D"))),
        basis=basis,
        window=draw(
            st.sampled_from(
                (
                    "{kind: rolling, length: P12M}",
                    "{kind: rolling, length: P3M}",
                    "{kind: rolling, length: P30D}",
                    "{kind: calendar_year}",
                    "{kind: lifetime}",
                )
            )
        ),
        downgrade=draw(st.sampled_from(("full", "one_level", "none"))),
        grace=draw(st.sampled_from(("P0D", "P30D", "P60D"))),
        silver=silver,
        gold=gold,
        black=black,
    )


# A day, and one of few hours of it, so that instants are equal now and then, also across midnight.
instants = st.builds(
    lambda day, hours: FIRST + timedelta(days=day, hours=hours),
    st.integers(0, DAYS),
    st.sampled_from((0, 10, 10, 23)),
)
sales = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), instants, st.sampled_from(AMOUNTS)),
    min_size=10,
    max_size=60,
)

# Of which purchase (or of none that is known), how, for whom else, how many days after the first sale.
returns = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 12)),
        st.sampled_from(("0.5", "1", "2", "whole", "amount", "cancelled")),
        st.sampled_from((None, None, None, "ada", "ben")),
        st.integers(0, DAYS),
    ),
    max_size=14,
)


def refunds_of(
    sales: Sequence[tuple[str, datetime, str]],
    found: Sequence[tuple[int | None, str, str | None, int]],
) -> list[bytes]:
    """Refunds and cancellations of these sales, some of them another customer's or of an order that never was."""
    told: list[dict[str, Any]] = []
    gone: set[str] = set()
    for number, (index, how, other, day) in enumerate(found):
        known = index is not None and index < len(sales)
        who = other or (sales[index][0] if index is not None and known else "ada")
        order, at = (
            f"o{index}" if index is not None else None,
            (FIRST + timedelta(days=day)).isoformat(),
        )
        if how == "cancelled" and order is not None:
            if order not in gone:
                told.append(cancelled(order, at, None if number % 2 else who))
            gone.add(order)
        elif how == "amount" and order is not None:
            told.append(refunded(f"r{number}", order, who, at, amount="77.77"))
        elif how == "whole" and order is not None:
            told.append(refunded(f"r{number}", order, who, at))
        else:
            quantity = how if how[0].isdigit() else "1"
            name = "sku-1" if order is None else "1"
            told.append(refunded(f"r{number}", order, who, at, [(name, quantity)]))
    return [json.dumps(one).encode() for one in told]


def lines_of(found: Sequence[tuple[str, datetime, str]]) -> list[bytes]:
    return [
        json.dumps(event(purchase(f"o{number}", who, when.isoformat(), amount))).encode()
        for number, (who, when, amount) in enumerate(found)
    ]


async def state_of(dsns: Dsns) -> State:
    found: State = {}
    for service, queries in STATE.items():
        conn = await asyncpg.connect(dsns[service])
        try:
            for name, query in queries.items():
                found[name] = [tuple(row) for row in await conn.fetch(query)]
        finally:
            await conn.close()
    return found


async def end_of(program: Program, dsns: Dsns, lines: Sequence[bytes], seed: int | None) -> State:
    """The end state: in order and once without a seed, else as the seed has it, everything twice or thrice."""
    async with system(program, dsns) as one:
        if seed is None:
            one.sell(lines)
        else:
            chance = random.Random(seed)
            again = [line for line in lines for _ in range(chance.choice((1, 2, 3)))]
            chance.shuffle(again)
            await one.stir(again, chance)
        await rest(one)
        assert await one.violations() == []
        return await state_of(dsns)


async def rest(one: System) -> None:
    """Nothing moves any more, and nothing is due any more."""
    await one.settle()
    await one.judge()
    await one.settle()
    assert not any(one.unread(service) for service in CONSUMES)


@settings(
    max_examples=14,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=program_texts(), found=sales, back=returns, seed=st.integers(0, 2**32))
def test_any_order_repetition_and_split_ends_the_same(
    database: Callable[[str], str],
    text: str,
    found: list[tuple[str, datetime, str]],
    back: list[tuple[int | None, str, str | None, int]],
    seed: int,
) -> None:
    program, lines = programs.parse(text), lines_of(found) + refunds_of(found, back)
    assert max(when for _, when, _ in found) < NOW
    ends = [
        asyncio.run(end_of(program, {name: database(name) for name in CONSUMES}, lines, one))
        for one in (None, seed)
    ]
    assert ends[1] == ends[0]
    assert sum(row[1] for row in ends[0]["balances"]) >= 0
