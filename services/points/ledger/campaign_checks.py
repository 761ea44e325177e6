"""What must always hold of campaigns; each names its violations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.points.domain import deciding
from services.points.ledger.campaigns import ALL_SPENT, capped_accounts, first_purchases, held
from shared.db.types import Connection
from shared.invariants import Invariant
from shared.program.model import Program

ACCOUNTS_AT_ONCE = 200

BUDGETS = Invariant(
    "budgets-are-what-was-drawn",
    "what a campaign's budget has given is the sum of what purchases drew",
    """
    SELECT b.campaign, b.drawn, coalesce(d.points, 0) AS draws
    FROM campaign_budgets b
    LEFT JOIN (SELECT campaign, sum(points) AS points FROM campaign_draws GROUP BY campaign) d USING (campaign)
    WHERE b.drawn <> coalesce(d.points, 0)
    """,
)


def of(program: Program) -> Sequence[Invariant]:
    """What needs the program's levels included."""

    async def recompute(conn: Connection) -> list[dict[str, Any]]:
        """Decide all campaigns anew from what they offered and what is known now."""
        wrong: list[dict[str, Any]] = []
        after = 0
        while accounts := await capped_accounts(conn, after, ACCOUNTS_AT_ONCE):
            after = accounts[-1][0]
            wrong += await _wrong(conn, [*accounts], program)
        return wrong

    recomputed = Invariant(
        "campaigns-recompute",
        "every purchase stands at what its campaigns give by all that is known: conditions, the best one, caps",
        recompute,
    )
    return (BUDGETS, recomputed)


async def _wrong(
    conn: Connection, accounts: Sequence[tuple[int, str, Any]], program: Program
) -> list[dict[str, Any]]:
    ids = [account_id for account_id, _, _ in accounts]
    known, firsts = await held(conn, ids), await first_purchases(conn, ids)
    wrong = []
    for account_id, customer_id, moves in accounts:
        ones = known.get(account_id, [])
        recorded = [one.recorded for one in ones]
        # What budgets gave is a fact: nothing can be drawn here.
        spent = {offer.id: ALL_SPENT for one in recorded for offer in one.case.offers}
        _, first = firsts.get(account_id, (None, None))
        decided = deciding.replay(recorded, moves, program, first, spent)
        for one in ones:
            _, right = decided[one.recorded.lot_id]
            if (one.row["total"], one.row["base"]) != (right.total, right.base):
                wrong.append(
                    {
                        "customer_id": customer_id,
                        "lot_id": one.recorded.lot_id,
                        "points": one.row["total"],
                        "expected": right.total,
                        "base": one.row["base"],
                        "expected_base": right.base,
                    }
                )
    return wrong
