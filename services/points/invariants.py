"""What must always hold in the points database; each names its violations."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import msgspec

from services.points.domain import bonus
from services.points.domain.refunds import targets_of
from services.points.ledger import (
    campaign_checks,
    chain,
    correction_checks,
    customer_checks,
    refunds,
    spending_checks,
)
from shared.contracts.tiers import TierMove
from shared.db.types import Connection
from shared.invariants import Invariant
from shared.money import round_points
from shared.program import Program

ACCOUNTS_AT_ONCE = 200
_moves = msgspec.json.Decoder(list[TierMove])

BALANCES = Invariant(
    "balance-is-sum-of-entries",
    "an account's balance and position are the sum and the number of its entries",
    """
    SELECT a.customer_id, a.balance, a.seq, coalesce(sum(e.points), 0) AS sum, count(e.*) AS entries
    FROM accounts a LEFT JOIN entries e USING (account_id)
    GROUP BY a.account_id
    HAVING a.balance <> coalesce(sum(e.points), 0) OR a.seq <> count(e.*)
    """,
)
RUNNING = Invariant(
    "balance-after-runs",
    "each entry's balance_after is the sum of the entries up to it, and no number is left out",
    """
    SELECT * FROM (
        SELECT account_id, seq, entry_id, balance_after,
               sum(points) OVER w AS running, row_number() OVER w AS position
        FROM entries WINDOW w AS (PARTITION BY account_id ORDER BY seq)
    ) e WHERE balance_after <> running OR seq <> position
    """,
)
LOTS = Invariant(
    "lots-are-whole",
    "a lot has one customer, at most one purchase and one pair of dates (or an end that moves from the first on),"
    " and is owed only where points were taken",
    """
    SELECT e.lot_id, sum(e.points) AS points, count(*) FILTER (WHERE e.kind = 'earned') AS awards
    FROM entries e JOIN accounts a USING (account_id) GROUP BY e.lot_id
    HAVING count(*) FILTER (WHERE e.kind = 'earned') > 1 OR count(DISTINCT e.account_id) <> 1
        OR (sum(e.points) FILTER (WHERE e.kind <> 'expired') < 0 AND bool_and(a.flags = 0))
        OR count(DISTINCT e.available_at) <> 1 OR count(e.active_from) > 1
        OR CASE count(e.active_from)
               WHEN 0 THEN count(DISTINCT coalesce(e.expires_at, 'infinity')) <> 1
               ELSE bool_or(e.active_from IS NOT NULL AND (e.entry_id <> e.lot_id OR e.expires_at IS NULL))
                   OR min(e.expires_at) < min(e.expires_at) FILTER (WHERE e.active_from IS NOT NULL)
           END
    """,
)
DATES = Invariant(
    "dates-in-order",
    "points become available when or after they are earned, and before they expire",
    "SELECT entry_id, occurred_at, available_at, expires_at FROM entries"
    " WHERE (available_at < occurred_at AND kind IN ('earned', 'tier_bonus', 'campaign', 'activity'))"
    " OR expires_at <= available_at",
)
LOSSES = Invariant(
    "expired-is-what-was-left",
    "what is written as expired of a lot is what was left in it and not held, unless it is still to be told",
    """
    WITH held AS (
        SELECT u.lot_id, sum(u.points) AS points
        FROM holds h, unnest(h.lots, h.parts) AS u(lot_id, points)
        WHERE h.held_at < h.ended_at AND h.ended_at > now() GROUP BY u.lot_id),
    lots AS (
        SELECT e.account_id, lot_id, coalesce(min(m.expires_at), min(e.expires_at)) AS expires_at,
               coalesce(sum(e.points) FILTER (WHERE e.kind <> 'expired'), 0) AS remainder,
               coalesce(-sum(e.points) FILTER (WHERE e.kind = 'expired'), 0) AS expired
        FROM entries e LEFT JOIN moving_lots m USING (lot_id) GROUP BY e.account_id, lot_id)
    SELECT a.customer_id, l.lot_id, l.expires_at, l.remainder, l.expired, h.points AS held
    FROM lots l JOIN accounts a USING (account_id) LEFT JOIN held h USING (lot_id)
    WHERE coalesce(a.due_at, 'infinity') > now() + interval '2 minutes'
      AND l.expired <> CASE WHEN l.expires_at <= now() THEN greatest(0, l.remainder - coalesce(h.points, 0))
                            ELSE 0 END
    """,
)
ONCE = Invariant(
    "credited-once",
    "an order or event is credited once; one set aside before is the same, and was kept to be credited later",
    """
    SELECT e.shop, e.order_id, e.event_id FROM entries e JOIN uncredited u
    ON u.purchase_id = e.entry_id OR u.event_key = e.event_key
    WHERE e.kind = 'earned' AND (u.data IS NULL OR u.purchase_id <> e.entry_id OR u.event_key <> e.event_key)
    """,
)
COUNTED = Invariant(
    "applied-purchases-are-kept",
    "every purchase and refund counted as taken stands in the ledger, among the uncredited or the refunds",
    """
    SELECT * FROM (
        SELECT (SELECT coalesce(sum(applied + parked + refused), 0)
                FROM offsets WHERE topic = 'treue.purchases') AS taken,
               (SELECT count(*) FROM entries WHERE kind = 'earned')
               + (SELECT count(*) FROM uncredited u
                  WHERE NOT EXISTS (SELECT FROM entries e WHERE e.entry_id = u.purchase_id))
               + (SELECT count(*) FROM refunds) AS kept
    ) t WHERE taken <> kept
    """,
)
CLAWED = Invariant(
    "clawed-back-within-grant",
    "refunds take at most what was granted, and never give",
    """
    SELECT lot_id, sum(points) FILTER (WHERE kind = 'clawed_back') AS clawed_back,
           sum(points) FILTER (WHERE kind IN ('earned', 'tier_bonus', 'campaign')) AS granted
    FROM entries GROUP BY lot_id
    HAVING sum(points) FILTER (WHERE kind = 'clawed_back') > 0
        OR -sum(points) FILTER (WHERE kind = 'clawed_back')
           > coalesce(sum(points) FILTER (WHERE kind IN ('earned', 'tier_bonus', 'campaign')), 0)
    """,
)
OUTCOMES = Invariant(
    "refunds-stand-as-booked",
    "every refund has an outcome, which took what its entries say, and waits only for what is not here",
    """
    SELECT r.refund_key, r.refund_id, r.order_id, o.state, o.points, e.points AS booked
    FROM refunds r LEFT JOIN refund_outcomes o USING (refund_key)
    LEFT JOIN (SELECT event_key, -sum(points) AS points FROM entries WHERE kind = 'clawed_back'
               GROUP BY event_key) e ON e.event_key = r.refund_key
    WHERE o.refund_key IS NULL OR o.points <> coalesce(e.points, 0)
       OR (o.state = 'parked' AND (EXISTS (SELECT FROM entries p WHERE p.entry_id = r.purchase_id)
                                   OR EXISTS (SELECT FROM uncredited u WHERE u.purchase_id = r.purchase_id)))
    """,
)


async def _refunds(conn: Connection) -> list[dict[str, Any]]:
    """Decide all refunds anew and compare with what was taken for each."""
    rows = await conn.fetch(
        "SELECT account_id FROM accounts WHERE flags & 1 = 1 ORDER BY account_id"
    )
    accounts = [row["account_id"] for row in rows]
    wrong = []
    for start in range(0, len(accounts), ACCOUNTS_AT_ONCE):
        for settling in await refunds.load(conn, accounts[start : start + ACCOUNTS_AT_ONCE]):
            targets = targets_of(settling.outcomes())
            for pair in targets.keys() | settling.taken.keys():
                right = targets[pair].points if pair in targets else 0
                taken = settling.taken.get(pair)
                if right != (taken.points if taken else 0):
                    wrong.append(
                        {
                            "account_id": settling.account_id,
                            "refund_key": pair[0],
                            "lot_id": pair[1],
                            "points": taken.points if taken else 0,
                            "expected": right,
                        }
                    )
    return wrong


CLAWBACKS = Invariant(
    "clawbacks-recompute",
    "what refunds took is what they amount to, decided anew from what shops told",
    _refunds,
)
REFUNDS = (CLAWED, OUTCOMES, CLAWBACKS)

WRITTEN = Invariant(
    "entries-as-written",
    "every entry is as it was when it was written, and none of its batch is gone",
    chain.changed,
)
LINKED = Invariant(
    "chain-unbroken",
    "every link hangs on the one before it, and its hash is that of what it holds",
    """
    SELECT chain, number, batch, recorded_at FROM (
        SELECT *, lag(hash) OVER w AS before, row_number() OVER w AS place
        FROM chain WINDOW w AS (PARTITION BY chain ORDER BY number)
    ) l WHERE number <> place OR previous IS DISTINCT FROM before
           OR hash <> link_hash(chain, number, previous, batch, digests)
    ORDER BY recorded_at, chain, number
    """,
)
TIED = Invariant(
    "checkpoints-hold",
    "every checkpoint follows the one before it, and the links that it tied together are still those",
    """
    SELECT number, recorded_at, 'is not what was written' AS what, NULL AS chain, NULL AS link FROM (
        SELECT *, lag(hash) OVER w AS before, row_number() OVER w AS place
        FROM checkpoints WINDOW w AS (ORDER BY number)
    ) p WHERE number <> place OR previous IS DISTINCT FROM before
           OR hash <> checkpoint_hash(number, heads, unchained, previous, recorded_at)
    UNION ALL
    SELECT p.number, p.recorded_at, 'tied a link that is gone or another now', h.value ->> 0, h.value ->> 1
    FROM checkpoints p CROSS JOIN json_array_elements(p.heads) h
    LEFT JOIN chain c ON c.chain = (h.value ->> 0)::bigint AND c.number = (h.value ->> 1)::bigint
    WHERE encode(c.hash, 'hex') IS DISTINCT FROM h.value ->> 2
    ORDER BY number
    """,
)
CHAINED = Invariant(
    "entries-are-chained",
    "no entry is outside the chain but those from before it (a day after the first link none may come any more)",
    """
    WITH old AS (SELECT min(recorded_at) + interval '1 day' AS until FROM chain)
    SELECT entry_id, recorded_at, NULL AS unchained, NULL AS at_checkpoint
    FROM entries, old WHERE batch IS NULL AND recorded_at > old.until
    UNION ALL
    SELECT NULL, p.recorded_at, n.unchained, p.unchained
    FROM (SELECT c.* FROM checkpoints c, old WHERE c.recorded_at > old.until ORDER BY number DESC LIMIT 1) p,
         (SELECT count(*) AS unchained FROM entries WHERE batch IS NULL) n
    WHERE n.unchained <> p.unchained
    """,
)
# What `treue verify` asks for in addition: it reads the whole ledger, which is too much for every ten minutes.
PROOF = (WRITTEN, LINKED, TIED, CHAINED)


def of(program: Program) -> Sequence[Invariant]:
    """All invariants, those that need the program's rules included."""

    async def tier_bonus(conn: Connection) -> list[dict[str, Any]]:
        """Recompute every lot from its exact value and its customer's way through the tiers."""
        wrong = []
        rows = conn.cursor(
            """
            SELECT a.customer_id,
                   CASE WHEN a.flags & 256 = 0 THEN a.timeline
                        ELSE (SELECT s.timeline FROM accounts s WHERE s.account_id = account_of(a.customer_id))
                   END AS timeline, e.lot_id, t.points, e.exact, e.occurred_at
            FROM entries e JOIN accounts a USING (account_id)
            JOIN (SELECT lot_id, sum(points)::bigint AS points FROM entries
                  WHERE kind IN ('earned', 'tier_bonus') GROUP BY lot_id) t USING (lot_id)
            WHERE e.kind = 'earned' AND e.reason IS DISTINCT FROM 'campaign'
            """
        )
        async for row in rows:
            moves = _moves.decode(row["timeline"]) if row["timeline"] else ()
            tier = bonus.tier_at(moves, program, row["occurred_at"])
            right = round_points(Fraction(row["exact"]) * tier.multiplier, program.earning.rounding)
            if right != row["points"]:
                wrong.append(
                    {
                        "customer_id": row["customer_id"],
                        "lot_id": row["lot_id"],
                        "points": row["points"],
                        "expected": right,
                    }
                )
        return wrong

    recomputed = Invariant(
        "lots-recompute",
        "every lot is the exact value of its purchase times the tier in force before it, rounded once",
        tier_bonus,
    )
    return (
        BALANCES,
        RUNNING,
        LOTS,
        DATES,
        LOSSES,
        ONCE,
        COUNTED,
        *REFUNDS,
        *campaign_checks.of(program),
        recomputed,
        *correction_checks.of(),
        *customer_checks.of(program),
        *spending_checks.of(program),
    )
