"""What must always hold in the tiers database; each names its violations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from services.tiers import ledger
from services.tiers.domain.persons import ways
from services.tiers.domain.qualification import Qualifying, counting
from services.tiers.domain.rules import Rules
from services.tiers.domain.standing import Standing
from shared.contracts.tiers import TierMove
from shared.db.types import Connection
from shared.invariants import Invariant
from shared.program import Program

_moves = msgspec.json.Decoder(tuple[TierMove, ...])
# Where the columns of an account end, and those of what counts begin.
COUNTING_FROM = 7

WALKED = Invariant(
    "entries-are-walked",
    "no entry and no refund lies after the instant its customer was walked to, and no deadline before it",
    """
    SELECT a.customer_id, a.computed_until, a.due_at, c.newest
    FROM accounts a LEFT JOIN LATERAL (
        SELECT greatest(max(c.occurred_at), max(r.at)) AS newest
        FROM counting(accounts_of(a.account_id, a.person_id)) c
        LEFT JOIN LATERAL json_to_recordset(c.reductions) AS r(at timestamptz) ON true) c ON true
    WHERE coalesce(a.person_id, a.account_id) = a.account_id
      AND (c.newest > coalesce(a.computed_until, '-infinity') OR a.due_at <= a.computed_until)
    """,
)
REVISIONS = Invariant(
    "revisions-are-told",
    "an account's revision is that of its newest change, and each revision before it stands in the history;"
    " of ids that are one person not those that changed only what promotions give",
    """
    SELECT a.customer_id, a.revision, max(c.revision) AS told, count(DISTINCT c.revision) AS revisions
    FROM accounts a LEFT JOIN changes c USING (account_id)
    GROUP BY a.account_id
    HAVING a.revision < coalesce(max(c.revision), 0)
        OR (a.person_id IS NULL AND a.revision <> count(DISTINCT c.revision))
    """,
)
HISTORY = Invariant(
    "moves-have-a-history",
    "every move of a stored timeline was recorded as a change when it came, and its level is the last move's",
    """
    SELECT a.customer_id, a.level, m.* FROM accounts a
    CROSS JOIN LATERAL ROWS FROM (
        json_to_recordset(a.timeline)
            AS (kind text, tier text, since timestamptz, valid_until timestamptz, reach int)
    ) WITH ORDINALITY AS m(kind, tier, since, valid_until, reach, position)
    WHERE NOT EXISTS (
        SELECT FROM changes c WHERE c.account_id = a.account_id AND c.kind = m.kind AND c.tier = m.tier
          AND c.since = m.since AND c.valid_until IS NOT DISTINCT FROM m.valid_until AND c.reach = m.reach)
       OR (m.position = json_array_length(a.timeline) AND coalesce(a.level, '') <> m.tier)
    """,
)
CAUSES = Invariant(
    "causes-are-entries",
    "a move's cause is an entry of the same person at the move's instant, for a fall one refunded then",
    """
    SELECT c.account_id, c.revision, c.number, c.kind, c.since, c.cause
    FROM changes c JOIN accounts a USING (account_id)
    WHERE c.cause IS NOT NULL AND NOT EXISTS (
        SELECT FROM qualifying q
        WHERE q.entry_id = c.cause AND q.occurred_at = c.since
          AND q.account_id = ANY(accounts_of(a.account_id, a.person_id)))
      AND NOT EXISTS (
        SELECT FROM standings s
        WHERE s.lot_id = c.cause AND s.account_id = ANY(accounts_of(a.account_id, a.person_id))
          AND (s.occurred_at = c.since OR c.since IN (
               SELECT r.at FROM json_to_recordset(s.reductions) AS r(at timestamptz))))
    """,
)
COUNTED = Invariant(
    "applied-entries-are-kept",
    "whatever stands among the qualifying entries and their standings was counted as applied",
    """
    SELECT * FROM (
        SELECT (SELECT coalesce(sum(applied), 0) FROM offsets WHERE topic = 'treue.points') AS applied,
               (SELECT count(*) FROM qualifying) + (SELECT count(*) FROM standings) AS kept
    ) t WHERE applied < kept
    """,
)
BOUNDED = Invariant(
    "refunds-take-no-more-than-was-bought",
    "what refunds took out of a purchase is no more than it counts for",
    """
    SELECT s.lot_id, s.seq, s.base, s.net_spend, s.purchases, s.reductions::text FROM standings s
    WHERE EXISTS (SELECT FROM json_to_recordset(s.reductions) AS r(base bigint, net_spend numeric, purchases int)
                  HAVING sum(r.base) > s.base OR sum(r.net_spend) > s.net_spend OR sum(r.purchases) > s.purchases)
    """,
)


ONE_PERSON = Invariant(
    "merged-ids-are-one-person",
    "whoever lives on as another ends in the same account as that one, and nobody else in any but their own",
    """
    SELECT a.customer_id, a.person_id, m.into_id, i.person_id AS into_person
    FROM accounts a LEFT JOIN merges m USING (account_id) LEFT JOIN accounts i ON i.account_id = m.into_id
    WHERE (m.into_id IS NOT NULL AND (a.person_id IS NULL OR a.person_id IS DISTINCT FROM i.person_id
                                      OR a.person_id = a.account_id))
       OR (m.into_id IS NULL AND a.person_id <> a.account_id)
       OR (a.person_id = a.account_id AND NOT EXISTS (SELECT FROM merges w WHERE w.into_id = a.account_id))
    """,
)


def of(program: Program) -> Sequence[Invariant]:
    """All invariants, those that need the program's rules included."""
    rules = Rules(program)

    async def wrong_ways(conn: Connection) -> list[dict[str, Any]]:
        """Walk every account again from its entries, customer by customer."""
        wrong: list[dict[str, Any]] = []
        entries: list[Qualifying] = []
        account: asyncpg.Record | None = None
        cursor = conn.cursor(
            """
            SELECT a.account_id, a.customer_id, a.timeline, a.computed_until, a.due_at, a.room, a.late_room,
                   q.entry_id, q.occurred_at, q.base, q.net_spend, q.purchases, q.reductions::text
            FROM accounts a CROSS JOIN LATERAL counting(ARRAY[a.account_id]) q
            WHERE a.rules = $1 AND a.person_id IS NULL ORDER BY a.account_id
            """,
            rules.version,
        )
        async for row in cursor:
            if account is not None and row["account_id"] != account["account_id"]:
                wrong += _wrong(account, entries, rules)
                entries = []
            account = row
            entries.append(counting(rules.basis, *tuple(row)[COUNTING_FROM:]))
        if account is not None:
            wrong += _wrong(account, entries, rules)
        return wrong + await _wrong_persons(conn, rules)

    recomputed = Invariant(
        "timelines-recompute",
        "every customer's way, walked again from their entries, is the stored one; nothing was skipped",
        wrong_ways,
    )
    return (WALKED, REVISIONS, HISTORY, CAUSES, COUNTED, BOUNDED, ONE_PERSON, recomputed)


async def _wrong_persons(conn: Connection, rules: Rules) -> list[dict[str, Any]]:
    """The same for ids that are one person: the survivor's way, and that of each until it was merged."""
    persons = await ledger.all_persons(conn)
    ids = [account_id for person in persons for account_id in person.accounts]
    entries = await ledger.entries_of(conn, ids, rules.basis)
    wrong: list[dict[str, Any]] = []
    for person in persons:
        survivor = person.accounts[person.survivor]
        until = survivor.standing.computed_until
        if survivor.rules != rules.version or until is None:
            continue
        found = ways(entries, person.merges, person.survivor, until, rules.walk)
        wrong += [
            {
                "customer_id": account.customer_id,
                "stored": account.timeline,
                "expected": msgspec.json.encode(way.timeline.moves).decode(),
                "promotions": account.promotions,
                "expected_promotions": msgspec.json.encode(way.promotions).decode(),
            }
            for account_id, way in found.items()
            for account in (person.accounts[account_id],)
            if (way.timeline.moves, way.promotions) != (account.told(), account.promoted())
        ]
    return wrong


def _wrong(
    account: asyncpg.Record, entries: Sequence[Qualifying], rules: Rules
) -> list[dict[str, Any]]:
    found = rules.walk(entries, account["computed_until"])
    right = rules.standing_of(found)
    stored = Standing(
        account["computed_until"], account["due_at"], account["room"], account["late_room"]
    )
    if found.moves == _moves.decode(account["timeline"]) and _is_safe(stored, right):
        return []
    return [
        {
            "customer_id": account["customer_id"],
            "stored": account["timeline"],
            "expected": msgspec.json.encode(found.moves).decode(),
            "standing": repr(stored),
            "expected_standing": repr(right),
        }
    ]


def _is_safe(stored: Standing, right: Standing) -> bool:
    """Whether the stored standing stops all that a fresh one would: less room costs only time."""
    rooms = ((stored.room, right.room), (stored.late_room, right.late_room))
    narrow = all(b is None or (a is not None and a <= max(b, 0)) for a, b in rooms)
    return stored.due_at == right.due_at and narrow
