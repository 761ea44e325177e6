"""What must always hold of holds, of what they took, and of deficits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.points.domain import settlement
from services.points.ledger import spending
from shared.db.types import Connection
from shared.invariants import Invariant
from shared.program import Program

ACCOUNTS_AT_ONCE = 200
CLAMP = "clamp_to_zero"

HOLDS = Invariant(
    "holds-add-up",
    "a hold reserves what it says, ends once, and took and gave back just what its entries say",
    """
    SELECT h.hold_id, h.state, h.points, h.captured, h.restored, e.captured AS booked, e.restored AS given_back
    FROM holds h
    FULL JOIN (
        SELECT event_key, coalesce(-sum(points) FILTER (WHERE kind = 'captured'), 0) AS captured,
               coalesce(sum(points) FILTER (WHERE kind = 'restored'), 0) AS restored
        FROM entries WHERE kind IN ('captured', 'restored') GROUP BY event_key) e ON e.event_key = h.hold_id
    WHERE h.hold_id IS NULL OR h.captured <> coalesce(e.captured, 0) OR h.restored <> coalesce(e.restored, 0)
       OR (SELECT coalesce(sum(p), 0) FROM unnest(h.parts) p)
          <> CASE WHEN h.state = 'declined' THEN 0 ELSE h.points END
       OR (h.state IN ('held', 'expired') AND h.ended_at <> h.expires_at)
    """,
)
ALLOCATIONS = Invariant(
    "held-within-lots",
    "holds reserve of a lot no more than was in it, before refunds and corrections took from it",
    """
    SELECT l.account_id, l.lot_id, l.points, r.points AS reserved
    FROM (SELECT u.lot_id, sum(u.points) AS points
          FROM holds h CROSS JOIN unnest(h.lots, h.parts) AS u(lot_id, points)
          WHERE h.state = 'held' AND h.ended_at > now() GROUP BY u.lot_id) r
    LEFT JOIN LATERAL (
        SELECT min(o.account_id) AS account_id, o.lot_id,
               sum(e.points) FILTER (
                   WHERE e.points > 0 OR e.kind IN ('captured', 'transferred', 'adjusted')) AS points
        FROM entries o JOIN entries e ON e.account_id = o.account_id AND e.lot_id = o.lot_id
        WHERE o.entry_id = r.lot_id GROUP BY o.lot_id) l ON true
    WHERE l.lot_id IS NULL OR r.points > l.points
    """,
)
COVERS = Invariant(
    "covers-cancel-out",
    "what lots pay for others of their customer is what these get, at each instant",
    """
    SELECT account_id, occurred_at, sum(points) AS points FROM entries WHERE kind = 'covered'
    GROUP BY account_id, occurred_at HAVING sum(points) <> 0
    """,
)
OWED = Invariant(
    "who-owes-has-nothing",
    "nobody owes points who has some that are open and not held",
    """
    WITH reserved AS (
        SELECT u.lot_id, sum(u.points) AS points
        FROM holds h CROSS JOIN unnest(h.lots, h.parts) AS u(lot_id, points)
        WHERE h.ended_at > now() AND h.held_at > now() - interval '8 days' GROUP BY u.lot_id),
    lots AS (
        SELECT e.account_id, e.lot_id, sum(e.points) AS points, coalesce(min(r.points), 0) AS reserved,
               min(e.available_at) <= now()
               AND coalesce(min(m.expires_at), min(e.expires_at), 'infinity') > now() AS open
        FROM entries e JOIN accounts a USING (account_id) LEFT JOIN reserved r USING (lot_id)
        LEFT JOIN moving_lots m USING (lot_id)
        WHERE a.flags <> 0 AND e.kind <> 'expired' AND e.occurred_at <= now()
        GROUP BY e.account_id, e.lot_id)
    SELECT account_id, sum(greatest(-points, 0)) AS deficit,
           sum(greatest(points - reserved, 0)) FILTER (WHERE open) AS free
    FROM lots GROUP BY account_id
    HAVING sum(greatest(-points, 0)) > 0 AND sum(greatest(points - reserved, 0)) FILTER (WHERE open) > 0
    """,
)


def of(program: Program) -> Sequence[Invariant]:
    """All of them, those that need the program's rules included."""
    clamp = program.earning.refunds == CLAMP

    async def covers(conn: Connection) -> list[dict[str, Any]]:
        """Replay every account that ever owed anything."""
        rows = await conn.fetch("SELECT account_id FROM accounts WHERE flags <> 0 ORDER BY 1")
        accounts = [row["account_id"] for row in rows]
        wrong = []
        for start in range(0, len(accounts), ACCOUNTS_AT_ONCE):
            part = accounts[start : start + ACCOUNTS_AT_ONCE]
            lines = await spending.replayed_lines(conn, part)
            reserves = await spending.reserves(conn, part)
            for account_id, moved in lines.items():
                held = reserves.get(account_id, ())
                changes = settlement.changes(moved, held, write_off=clamp)
                wrong += [{"account_id": account_id, **one._asdict()} for one in changes]
        return wrong

    recomputed = Invariant(
        "covers-recompute",
        "what lots pay for others is what a replay of everything that moved says",
        covers,
    )
    return (HOLDS, ALLOCATIONS, COVERS, OWED, recomputed)
