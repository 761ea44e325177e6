-- name: lock_and_know
-- Make the accounts that are missing and lock all of them, always in the same order; and tell which of these orders
-- or events have been seen, with the fingerprint of what they said. One that another transaction adds while this
-- one waits for its locks is not seen, and cannot be added a second time either: the primary keys are in the way.
-- A purchase without event_key is one that refunds have been told of.
WITH wanted AS (SELECT DISTINCT customer_id FROM unnest(:customers::text[]) AS u(customer_id)),
     made AS (
         INSERT INTO accounts (customer_id)
         SELECT customer_id FROM wanted w
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.customer_id = w.customer_id)
         ORDER BY customer_id
         ON CONFLICT DO NOTHING
         RETURNING account_id, customer_id, seq, balance, revision, timeline, flags),
     locked AS (
         SELECT account_id, customer_id, seq, balance, revision, timeline, flags
         FROM accounts WHERE customer_id = ANY(:customers::text[])
         ORDER BY account_id FOR UPDATE)
SELECT *, NULL::uuid AS purchase_id, NULL::uuid AS event_key, NULL::bigint AS fingerprint FROM made
UNION ALL
SELECT *, NULL, NULL, NULL FROM locked
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, known.* FROM (
SELECT entry_id AS purchase_id, event_key, fingerprint FROM entries WHERE entry_id = ANY(:purchases::uuid[])
UNION
SELECT entry_id, event_key, fingerprint FROM entries WHERE event_key = ANY(:events::uuid[]) AND kind = 'earned'
UNION
SELECT purchase_id, event_key, fingerprint FROM uncredited WHERE purchase_id = ANY(:purchases::uuid[])
UNION
SELECT purchase_id, event_key, fingerprint FROM uncredited WHERE event_key = ANY(:events::uuid[])) AS known
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, purchase_id, NULL, NULL
FROM refunds WHERE purchase_id = ANY(:purchases::uuid[]);

-- name: append_entries!
-- A few lines, their accounts' new position and sum, and their link of the chain, in one statement.
WITH linked AS (
    INSERT INTO chain (batch, digests) VALUES (:batch::uuid, :digests::bytea)),
moved AS (
    UPDATE accounts a SET seq = u.seq, balance = u.balance, due_at = least(a.due_at, u.due_at)
    FROM unnest(:moved_ids::bigint[], :moved_seqs::bigint[], :moved_balances::bigint[], :dues::timestamptz[])
        AS u(account_id, seq, balance, due_at)
    WHERE a.account_id = u.account_id)
INSERT INTO entries (entry_id, account_id, seq, kind, points, base, bonus, balance_after, lot_id, occurred_at,
                     recorded_at, available_at, expires_at, shop, order_id, event_key, event_id, fingerprint,
                     net_spend, exact, tier, multiplier, reason, explanation, actor, active_from, batch)
SELECT *, :batch::uuid FROM unnest(:entry_ids::uuid[], :account_ids::bigint[], :seqs::bigint[], :kinds::text[],
                     :points::bigint[], :bases::bigint[], :bonuses::bigint[], :balances::bigint[],
                     :lots::uuid[], :occurred::timestamptz[], :recorded::timestamptz[],
                     :available::timestamptz[], :expires::timestamptz[], :shops::text[], :orders::text[],
                     :event_keys::uuid[], :event_ids::text[], :fingerprints::bigint[], :net_spends::numeric[],
                     :exacts::text[], :tiers::text[], :multipliers::text[], :reasons::text[],
                     :explanations::json[], :actors::text[], :active::timestamptz[]);

-- name: move_accounts!
-- The accounts' new position and sum after their lines were appended, and those lines' link of the chain.
WITH linked AS (
    INSERT INTO chain (batch, digests) VALUES (:batch::uuid, :digests::bytea))
UPDATE accounts a SET seq = u.seq, balance = u.balance, due_at = least(a.due_at, u.due_at)
FROM unnest(:account_ids::bigint[], :seqs::bigint[], :balances::bigint[], :dues::timestamptz[])
    AS u(account_id, seq, balance, due_at)
WHERE a.account_id = u.account_id;

-- name: take_timelines
-- Store what the tiers service last told about these customers, and give all their awards with what they stand
-- at now, for a new look at their tier bonus; those whose campaigns look at the tier too are settled as a whole. LIKE,
-- for with an equation the planner may read all of entries_event, where what it knows of the table is old.
WITH told AS (
    UPDATE accounts a SET revision = u.revision, timeline = u.timeline
    FROM unnest(:account_ids::bigint[], :revisions::bigint[], :timelines::json[])
        AS u(account_id, revision, timeline)
    WHERE a.account_id = u.account_id)
SELECT e.account_id, e.entry_id, e.occurred_at, e.available_at, e.expires_at, e.shop, e.order_id, e.exact,
       e.net_spend, e.fingerprint,
       e.points + coalesce(c.points, 0) AS total,
       CASE WHEN c.lot_id IS NULL THEN e.tier ELSE c.tier END AS tier,
       coalesce(c.multiplier, e.multiplier) AS multiplier
FROM entries e
LEFT JOIN (
    SELECT lot_id, sum(points)::bigint AS points,
           (array_agg(tier ORDER BY seq DESC))[1] AS tier,
           (array_agg(multiplier ORDER BY seq DESC))[1] AS multiplier
    FROM entries
    WHERE account_id = ANY(:account_ids::bigint[]) AND kind = 'tier_bonus'
    GROUP BY lot_id
) c ON c.lot_id = e.entry_id
WHERE e.account_id = ANY(:account_ids::bigint[]) AND e.kind LIKE 'earned' AND e.reason IS DISTINCT FROM 'campaign'
ORDER BY e.account_id, e.occurred_at, e.entry_id;
