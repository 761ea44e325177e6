"""What must always hold of customers, their cards and what they do besides buying."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import asyncpg

from services.points.domain.activities import Done, counted
from shared.db.types import Connection
from shared.invariants import Invariant
from shared.program import Program

CARDS = Invariant(
    "cards-have-one-owner",
    "all that was told of a card was told of one customer, merged ones being one",
    """
    SELECT card_number, count(DISTINCT coalesce(m.into_id, c.account_id)) AS owners
    FROM card_changes c LEFT JOIN merges m USING (account_id)
    GROUP BY card_number HAVING count(DISTINCT coalesce(m.into_id, c.account_id)) > 1
    """,
)
WITHDRAWN = Invariant(
    "withdrawn-lots-hold-nothing",
    "of a purchase whose credit was taken back nothing is left that was granted for it",
    """
    SELECT w.purchase_id, w.card_number, sum(e.points) AS points
    FROM withdrawals w JOIN entries e ON e.account_id = w.account_id AND e.lot_id = w.purchase_id
    WHERE e.kind IN ('earned', 'tier_bonus', 'campaign', 'clawed_back', 'withdrawn')
    GROUP BY w.purchase_id, w.card_number HAVING sum(e.points) <> 0
    """,
)
BLOCKED = Invariant(
    "blocked-cards-earn-nothing",
    "no purchase is credited by a card that had been blocked or replaced before it",
    """
    SELECT p.purchase_id, p.card_number FROM card_purchases p
    JOIN (SELECT card_number, min(occurred_at) AS ended_at FROM card_changes WHERE change <> 'issued'
          GROUP BY card_number) c ON c.card_number = p.card_number AND p.occurred_at >= c.ended_at
    WHERE NOT EXISTS (SELECT FROM withdrawals w WHERE w.purchase_id = p.purchase_id)
      AND NOT EXISTS (SELECT FROM claims l WHERE l.purchase_id = p.purchase_id)
    """,
)
ACTS = """
    SELECT account_of(c.customer_id) AS person, a.account_id, a.activity, a.activity_id, a.occurred_at,
           (SELECT sum(e.points)::bigint FROM entries e WHERE e.event_key = a.event_key
            AND e.kind = 'activity') AS points
    FROM activities a JOIN accounts c USING (account_id) WHERE a.verdict IS NULL AND a.referrer_id IS NULL
"""


def activities(program: Program) -> Invariant:
    """Decide all activities anew and compare with what stands in their lots."""
    rules = {one.activity: one for one in program.earning.activities}

    async def find(conn: Connection) -> list[dict[str, Any]]:
        groups: dict[tuple[int, str], list[asyncpg.Record]] = defaultdict(list)
        async for row in conn.cursor(ACTS):
            groups[row["person"], row["activity"]].append(row)
        wrong: list[dict[str, Any]] = []
        for (_, activity), acts in groups.items():
            rule = rules.get(activity)
            if rule is None:
                continue
            done = [Done(row["activity_id"], row["occurred_at"]) for row in acts]
            right = counted(done, rule.limit, program.zone)
            wrong += [
                dict(row)
                for row in acts
                if row["points"] != (rule.points if row["activity_id"] in right else 0)
            ]
        return wrong

    return Invariant(
        "activities-recompute",
        "every activity earned what the program's limits give it in the order of the world, merged ids being one",
        find,
    )


def of(program: Program) -> Sequence[Invariant]:
    """All of them."""
    return (CARDS, WITHDRAWN, BLOCKED, activities(program))
