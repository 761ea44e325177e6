"""With campaigns too the end state is a function of the set of events, through all three services.

What a campaign gives decides tiers, and tiers decide what campaigns give: both are told late here, and stirred.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared import program as programs
from shared.contracts.catalogue import CONSUMES
from tests.fixtures.events import event, line, purchase, refunded
from tests.properties.test_state_function_of_events import CUSTOMERS, RULES, end_of, instants

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

LIFE = {"from": "2023-01-01", "until": "2026-12-31"}
CAMPAIGNS: dict[str, dict[str, Any]] = {
    "capped": {"multiplier": "2", "cap": {"per_customer": 700}},
    "welcome": {"bonus": 300, "when": {"first_purchase": True}},
    "silver-days": {"multiplier": "1.5", "when": {"tiers": ["silver", "gold"]}},
    "gold-bonus": {
        "bonus": 77, "when": {"tiers": ["gold", "black"]}, "cap": {"per_customer": 200},
    },
    "home": {"multiplier": "3", "exclusive": True, "when": {"categories": ["home"]}},
    "big": {
        "bonus": 150, "exclusive": True, "when": {"minimum": "250.00"}, "cap": {"per_customer": 400},
    },
    "weekend": {"multiplier": "1.1", "when": {"weekdays": ["sat", "sun"]}},
    "short": {"from": "2024-03-01", "until": "2024-06-30", "bonus": 1, "cap": {"per_purchase": 1}},
}  # fmt: skip
AMOUNTS = ("0.50", "9.99", "119.99", "250.00", "499.99", "1000.01")


@st.composite
def program_texts(draw: st.DrawFn) -> str:
    names = draw(st.sets(st.sampled_from(sorted(CAMPAIGNS)), min_size=2))
    told = [{"id": name} | LIFE | CAMPAIGNS[name] for name in sorted(names)]
    text = RULES.format(
        zone="Europe/London",
        rounding=draw(st.sampled_from(("floor", "half_even", "ceil"))),
        available_after="P0D",
        basis="points",
        window=draw(
            st.sampled_from(
                ("{kind: rolling, length: P12M}", "{kind: calendar_year}", "{kind: lifetime}")
            )
        ),
        downgrade=draw(st.sampled_from(("full", "one_level"))),
        grace="P0D",
        silver=500,
        gold=2000,
        black=4000,
    )
    return text.replace(
        "  available_after:", f"  campaigns: {json.dumps(told)}\n  available_after:"
    )


sales = st.lists(
    st.tuples(
        st.sampled_from(CUSTOMERS),
        instants,
        st.sampled_from(AMOUNTS),
        st.sampled_from(("home", "garden")),
    ),
    min_size=10,
    max_size=40,
)


@settings(
    max_examples=10,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    text=program_texts(),
    found=sales,
    back=st.sets(st.integers(0, 40), max_size=8),
    seed=st.integers(0, 2**32),
)
def test_campaigns_end_the_same_in_any_order(
    database: Callable[[str], str],
    text: str,
    found: list[tuple[str, datetime, str, str]],
    back: set[int],
    seed: int,
) -> None:
    program = programs.parse(text)
    lines = []
    for number, (who, when, amount, category) in enumerate(found):
        bought = [line(1, amount, category=category), line(2, "3.33", category="garden")]
        data = purchase(f"o{number}", who, when.isoformat(), lines=bought)
        lines.append(json.dumps(event(data)).encode())
        if number in back:
            given_back = refunded(f"r{number}", f"o{number}", who, when.isoformat(), [("1", "1")])
            lines.append(json.dumps(given_back).encode())
    ends = [
        asyncio.run(end_of(program, {name: database(name) for name in CONSUMES}, lines, one))
        for one in (None, seed)
    ]
    assert ends[1] == ends[0]
