"""A quote says what the award says, also where that is nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.points import intake
from services.points.api.quote import router
from shared import program as programs
from shared.http.app import create_app
from shared.http.keys import KeyRing
from shared.program import Program
from tests.fixtures.events import card, enrolment, event, merge, purchase
from tests.fixtures.http_probe import ALL, client_of, keys_file
from tests.fixtures.points import Feed
from tests.fixtures.streams import running

pytestmark = pytest.mark.servers

RULES = """
program: test
name: Test
currency: GBP
timezone: Europe/London
enrolment: opt_in
guests: {claim_within: P30D}
earning:
  base: {points: 1, per: "1.00"}
  expiry: {after: P24M}
"""
EARLY, LATE = "2026-04-01T10:00:00Z", "2026-05-01T10:00:00Z"


@asynccontextmanager
async def shop(
    dsn: str, program: Program, tmp_path: Path
) -> AsyncIterator[tuple[Feed, httpx2.AsyncClient, Any]]:
    async with running(dsn, intake.routes(program)) as (runner, pool), client_of(
        create_app(
            service="points", version="1", routers=[router], keys=KeyRing(keys_file(tmp_path)),
            readiness={}, state={"program": program, "pool": pool},
        )
    ) as client:  # fmt: skip
        yield Feed(runner), client, pool


CARTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "a customer": ({"customer_id": "ann"}, None),
    "before enrolment": ({"customer_id": "ann", "occurred_at": EARLY}, "not_enrolled"),
    "never enrolled": ({"customer_id": "bob"}, "not_enrolled"),
    "nobody knows them": ({"customer_id": "zoe"}, "not_enrolled"),
    "merged": ({"customer_id": "anna"}, None),
    "a card": ({"card_number": "C1"}, None),
    "too early for the card": ({"card_number": "C1", "occurred_at": EARLY}, "card_not_yet"),
    "a blocked card": ({"card_number": "C2"}, "card_blocked"),
    "an unknown card": ({"card_number": "C9"}, "card_unknown"),
    "a guest": ({}, "guest"),
    "a claimed order": ({"order_id": "claimed"}, None),
    "a test": ({"customer_id": "ann", "is_test": True}, "test"),
}


@pytest.mark.parametrize("case", CARTS)
async def test_a_quote_says_what_the_award_gives(points_db: str, tmp_path: Path, case: str) -> None:
    more, why = CARTS[case]
    async with shop(points_db, programs.parse(RULES), tmp_path) as (feed, client, pool):
        told = "2026-04-20T10:00:00Z"
        await feed(enrolment("ann", told, [("online-retail", "claimed")]))
        await feed(card("issued", "C1", "ann", told), card("issued", "C2", "ann", told))
        await feed(card("blocked", "C2", "ann", "2026-04-21T10:00:00Z"), merge("anna", "ann"))
        await feed(event(purchase("before", "bob", "2026-04-02T10:00:00Z")))
        data = purchase("o1", None, LATE, "12.50") | more
        shown = await client.post("/v1/quote?shop=online-retail", json=data, headers=ALL)
        quote = shown.json()
        await feed(event(data))
        given = await pool.fetchval(
            "SELECT coalesce(sum(points), 0)::int FROM entries WHERE order_id = $1",
            data["order_id"],
        )
        assert quote["points"] == quote["base"] == quote["lines"][0]["points"] == given
        assert given == (0 if why else 12)
        stored = await pool.fetchval(
            "SELECT why FROM uncredited WHERE order_id = $1", data["order_id"]
        )
        assert stored == why
        if why is None:
            assert quote["uncredited"] is None
            lot = await pool.fetchrow(
                "SELECT available_at, expires_at FROM entries WHERE order_id = $1", data["order_id"]
            )
            dates = [datetime.fromisoformat(quote[name]) for name in ("available_at", "expires_at")]
            assert dates == [lot["available_at"], lot["expires_at"]]
        else:
            # Nobody ever earns anything with a test.
            otherwise = 0 if why == "test" else 12
            assert (quote["uncredited"]["why"], quote["uncredited"]["points"]) == (why, otherwise)
            assert set(quote["uncredited"]["text"]) == {"de", "en"}
