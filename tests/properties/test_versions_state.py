"""A program that changes as it goes: campaigns, levels and vouchers; any order of events ends the same.

Through all three services: levels that change decide which campaigns count and how much, and both are told late.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared import program as programs
from shared.contracts.catalogue import CONSUMES
from shared.program import Program
from shared.program.versions import Version, check_values
from tests.properties.test_campaign_state import CAMPAIGNS, LIFE
from tests.properties.test_state_function_of_events import (
    RULES,
    end_of,
    instants,
    lines_of,
    refunds_of,
    returns,
    sales,
)

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

TERMS = """
SELECT a.customer_id, v.cause_id, v.definition, v.terms::text FROM vouchers v JOIN accounts a USING (account_id)
WHERE v.state <> 'revoked' ORDER BY 1, 2, 3
"""


@st.composite
def running_programs(draw: st.DrawFn) -> tuple[Program, Sequence[Version]]:
    """A program and up to three versions that follow it."""
    window = draw(
        st.sampled_from(
            (
                "{kind: rolling, length: P12M}",
                "{kind: rolling, length: P30D}",
                "{kind: calendar_year}",
                "{kind: lifetime}",
            )
        )
    )
    dates = sorted(draw(st.sets(instants, min_size=1, max_size=3)))
    found = []
    extra = False
    for number in range(len(dates) + 1):
        names = draw(st.sets(st.sampled_from(sorted(CAMPAIGNS)), max_size=4))
        told = [{"id": name} | LIFE | CAMPAIGNS[name] for name in sorted(names)]
        text = RULES.format(
            zone="Europe/Berlin",
            rounding="floor",
            available_after=draw(st.sampled_from(("P0D", "P14D"))),
            basis="points",
            window=window,
            downgrade=draw(st.sampled_from(("full", "one_level"))),
            grace=draw(st.sampled_from(("P0D", "P30D"))),
            silver=draw(st.sampled_from((250, 500, 900))),
            gold=draw(st.sampled_from((1500, 2000))),
            black=draw(st.sampled_from((3000, 4000))),
        )
        text = text.replace(
            "  available_after:", f"  campaigns: {json.dumps(told)}\n  available_after:"
        )
        text = text.replace('"1.25"', draw(st.sampled_from(('"1.25"', '"1.1"', '"2"'))))
        text = text.replace('percent: "10"', f'percent: "{number + 5}"')
        text = text.replace("[ten, ship]", draw(st.sampled_from(("[ten, ship]", "[ten]", "[]"))))
        extra = extra or (number > 0 and draw(st.booleans()))
        if extra:
            ruby = '    - {id: ruby, name: Rubin, threshold: 1200, multiplier: "1.4", on_reach: [cash]}\n'
            text = text.replace("    - {id: gold", f"{ruby}    - {{id: gold")
        found.append(programs.parse(text))
    for old, new in pairwise(found):
        check_values(old, new)
    return found[0], [Version(at, one) for at, one in zip(dates, found[1:], strict=True)]


@settings(
    max_examples=10,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(running=running_programs(), found=sales, back=returns, seed=st.integers(0, 2**32))
def test_a_program_with_versions_ends_the_same_in_any_order(
    database: Callable[[str], str],
    running: tuple[Program, Sequence[Version]],
    found: list[tuple[str, datetime, str]],
    back: list[tuple[int | None, str, str | None, int]],
    seed: int,
) -> None:
    program, later = running
    program.follow(lambda: 0, lambda: later)
    lines = lines_of(found) + refunds_of(found, back)
    ends = []
    for one in (None, seed):
        dsns = {name: database(name) for name in CONSUMES}
        state = asyncio.run(end_of(program, dsns, lines, one))
        ends.append((state, asyncio.run(terms(dsns["rewards"]))))
    assert ends[1] == ends[0]


async def terms(dsn: str) -> list[tuple[Any, ...]]:
    """What each voucher that has a cause is worth."""
    conn = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await conn.fetch(TERMS)]
    finally:
        await conn.close()
