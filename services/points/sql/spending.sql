-- name: lock_spending
-- Lock the account of a customer or of a hold, and tell what it can spend: one row a lot that is open, owed, or of
-- this hold, with what live holds reserve of it; one row of nulls without any. Who had to wait for the lock gets
-- the account as it is now, but lots and holds as they were when the statement began: then fresh is false, and only
-- a second look, under the lock, sees all of them.
WITH locked AS MATERIALIZED (
    SELECT account_id, customer_id, seq, balance, revision, flags, spends
    FROM accounts
    WHERE account_id = coalesce((SELECT account_id FROM holds WHERE hold_id = :hold::uuid),
                                account_of(:customer::text))
    FOR UPDATE)
SELECT l.account_id, l.customer_id, l.seq, l.balance, l.revision, l.flags,
       (SELECT (a.seq, a.spends) = (l.seq, l.spends) FROM accounts a WHERE a.account_id = l.account_id) AS fresh,
       h.hold_id, h.state, h.points AS hold_points, h.captured, h.restored, h.lots, h.parts, h.order_id,
       h.redemption_id, h.held_at, h.expires_at AS hold_expires_at, h.ended_at,
       lot.lot_id, lot.points, coalesce(r.points, 0)::bigint AS reserved, lot.occurred_at, lot.available_at,
       lot.expires_at
FROM locked l
LEFT JOIN holds h ON h.hold_id = :hold::uuid
LEFT JOIN LATERAL (
    SELECT e.lot_id, sum(e.points)::bigint AS points,
           coalesce(min(e.occurred_at) FILTER (WHERE e.entry_id = e.lot_id), min(e.occurred_at)) AS occurred_at,
           min(e.available_at) AS available_at, min(e.expires_at) AS expires_at
    FROM entries e
    WHERE e.account_id = l.account_id AND e.kind <> 'expired'
      AND (e.kind <> 'covered' OR e.occurred_at <= :at::timestamptz)
    GROUP BY e.lot_id
    HAVING sum(e.points) < 0 OR e.lot_id = ANY(h.lots)
        OR (sum(e.points) > 0 AND (min(e.expires_at) IS NULL OR min(e.expires_at) > :at::timestamptz))) lot ON true
LEFT JOIN (
    SELECT u.lot_id, sum(u.points) AS points
    FROM locked k JOIN holds o USING (account_id) CROSS JOIN unnest(o.lots, o.parts) AS u(lot_id, points)
    WHERE o.held_at > :at::timestamptz - interval '8 days' AND o.state = 'held' AND o.ended_at > :at::timestamptz
    GROUP BY u.lot_id) r ON r.lot_id = lot.lot_id;

-- name: store_hold!
-- A hold as it stands now, with the lines it brings, their link of the chain and the account's new position: one
-- statement for all of it.
WITH linked AS (
    INSERT INTO chain (batch, digests) SELECT :batch::uuid, :digests::bytea WHERE :batch::uuid IS NOT NULL),
stored AS (
    INSERT INTO holds AS h (hold_id, account_id, state, points, captured, restored, lots, parts, order_id,
                            redemption_id, held_at, expires_at, ended_at)
    VALUES (:hold::uuid, :account::bigint, :state::text, :points::bigint, :captured::bigint, :restored::bigint,
            :lots::uuid[], :parts::bigint[], :order::text, :redemption::text, :held_at::timestamptz,
            :expires_at::timestamptz, :ended_at::timestamptz)
    ON CONFLICT (hold_id) DO UPDATE SET
        state = excluded.state, captured = excluded.captured, restored = excluded.restored,
        ended_at = excluded.ended_at),
moved AS (
    UPDATE accounts a SET
        seq = :seq::bigint, balance = :balance::bigint, flags = :flags::int, spends = a.spends + 1,
        due_at = least(a.due_at, :due::timestamptz)
    WHERE a.account_id = :account::bigint)
INSERT INTO entries (entry_id, account_id, seq, kind, points, base, bonus, balance_after, lot_id, occurred_at,
                     recorded_at, available_at, expires_at, shop, order_id, event_key, event_id, fingerprint,
                     net_spend, exact, tier, multiplier, reason, explanation, actor, batch)
SELECT *, :batch::uuid FROM unnest(:entry_ids::uuid[], :account_ids::bigint[], :seqs::bigint[], :kinds::text[],
                     :line_points::bigint[], :bases::bigint[], :bonuses::bigint[], :balances::bigint[],
                     :line_lots::uuid[], :occurred::timestamptz[], :recorded::timestamptz[],
                     :available::timestamptz[], :expires::timestamptz[], :shops::text[], :orders::text[],
                     :event_keys::uuid[], :event_ids::text[], :fingerprints::bigint[], :net_spends::numeric[],
                     :exacts::text[], :tiers::text[], :multipliers::text[], :reasons::text[],
                     :explanations::json[], :actors::text[]);

-- name: set_flags!
-- Remember why these accounts are settled after every write.
UPDATE accounts a SET flags = a.flags | u.flags
FROM unnest(:account_ids::bigint[], :flags::int[]) AS u(account_id, flags)
WHERE a.account_id = u.account_id;

-- name: account_ids
-- The accounts of these customers.
SELECT customer_id, account_id FROM accounts WHERE customer_id = ANY(:customers::text[]);

-- name: hold^
-- One hold with its customer.
SELECT h.*, a.customer_id FROM holds h JOIN accounts a USING (account_id) WHERE h.hold_id = :hold::uuid;

-- name: known_holds
-- Which of these holds there are.
SELECT hold_id FROM holds WHERE hold_id = ANY(:holds::uuid[]);

-- name: holds_of_order
-- What was reserved for an order or spent on it, and is not given back yet; the oldest first.
SELECT h.hold_id, h.state, h.captured, h.restored
FROM holds h
WHERE h.account_id = :account::bigint AND h.order_id = :order::text
  AND (h.state = 'held' OR h.captured > h.restored)
ORDER BY h.held_at, h.hold_id;

-- name: timed_out
-- Holds whose time is over, the longest first; another worker's are left to it.
SELECT hold_id FROM holds
WHERE state = 'held' AND expires_at <= :now::timestamptz
ORDER BY expires_at LIMIT :count::int;

-- name: owing
-- Of these accounts, those in which a lot was ever below 0, or something was covered.
SELECT DISTINCT account_id FROM (
    SELECT account_id, kind,
           sum(points) FILTER (WHERE kind NOT IN ('covered', 'expired'))
               OVER (PARTITION BY account_id, lot_id ORDER BY occurred_at) AS left
    FROM entries WHERE account_id = ANY(:accounts::bigint[])) e
WHERE "left" < 0 OR kind = 'covered';

-- name: replayed_lines
-- All that moved in these accounts' lots, by account.
SELECT account_id, entry_id, lot_id, kind, points, occurred_at, available_at, expires_at
FROM entries
WHERE account_id = ANY(:accounts::bigint[]) AND kind NOT IN ('expired', 'unlocked')
ORDER BY account_id, seq;

-- name: reserves
-- What holds of these accounts ever reserved, and until when.
SELECT h.account_id, u.lot_id, h.held_at, h.ended_at, u.points
FROM holds h CROSS JOIN unnest(h.lots, h.parts) AS u(lot_id, points)
WHERE h.account_id = ANY(:accounts::bigint[]);
