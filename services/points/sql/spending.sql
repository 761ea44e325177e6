-- name: lock_customer^
-- Lock the account of a customer, or of who lives on as them.
SELECT account_id, customer_id, seq, balance, revision, flags
FROM accounts WHERE account_id = account_of(:customer::text) FOR UPDATE;

-- name: lock_hold^
-- Lock the account of a hold, then the hold: both are as they are now, also for who had to wait.
SELECT a.account_id, a.customer_id, a.seq, a.balance, a.revision, a.flags, h.hold_id, h.state, h.points, h.captured,
       h.restored, h.lots, h.parts, h.order_id, h.redemption_id, h.held_at, h.expires_at, h.ended_at
FROM holds h JOIN accounts a USING (account_id)
WHERE h.hold_id = :hold::uuid
FOR UPDATE OF a, h;

-- name: lock_free
-- Lock the accounts of these customers and holds, but for those that somebody else has locked: nobody is waited for.
SELECT account_id, customer_id, seq, balance, revision, flags
FROM accounts
WHERE account_id = ANY(ARRAY(
    SELECT a.account_id FROM unnest(:customers::text[]) AS u(customer_id)
    CROSS JOIN LATERAL (SELECT account_id FROM accounts WHERE customer_id = u.customer_id OFFSET 0) AS a
    UNION ALL
    SELECT h.account_id FROM unnest(:holds::uuid[]) AS u(hold_id)
    CROSS JOIN LATERAL (SELECT account_id FROM holds WHERE hold_id = u.hold_id OFFSET 0) AS h))
FOR UPDATE SKIP LOCKED;

-- name: spendable_lots
-- The lots of locked accounts that are open, owed, reserved, or of one of the holds given, each with what live holds
-- reserve of it. Asked for after the lock and not along with it: a statement that waits for a lock sees the rest as it
-- was before. Account by account (OFFSET keeps it so), so that many cost just as much as each for itself. Live holds
-- are asked for as their index holds_live has it. moves: the lot's end moves with the customer's activity; expires_at
-- is where that stands.
SELECT a.account_id, l.*
FROM unnest(:accounts::bigint[]) AS a(account_id)
CROSS JOIN LATERAL (
    SELECT lot_id, sum(points)::bigint AS points, sum(reserved)::bigint AS reserved,
           coalesce(min(opened_at), min(occurred_at)) AS occurred_at, min(available_at) AS available_at,
           coalesce(min(moved_to), min(expires_at)) AS expires_at, count(moved_to) > 0 AS moves
    FROM (
        SELECT lot_id, points, 0 AS reserved, CASE WHEN entry_id = lot_id THEN occurred_at END AS opened_at,
               occurred_at, available_at, expires_at, NULL::timestamptz AS moved_to
        FROM entries
        WHERE account_id = a.account_id AND kind <> 'expired'
          AND (kind <> 'covered' OR occurred_at <= :at::timestamptz)
        UNION ALL
        SELECT u.lot_id, 0, u.points, NULL, NULL, NULL, NULL, NULL
        FROM holds h CROSS JOIN unnest(h.lots, h.parts) AS u(lot_id, points)
        WHERE h.account_id = a.account_id AND h.state NOT IN ('captured', 'released', 'expired', 'declined')
          AND h.ended_at > :at::timestamptz
        UNION ALL
        SELECT m.lot_id, 0, 0, NULL, NULL, NULL, NULL, m.expires_at
        FROM moving_lots_of(a.account_id, 'infinity') AS m) AS s
    GROUP BY lot_id
    HAVING sum(points) < 0 OR sum(reserved) > 0 OR lot_id = ANY(:lots::uuid[])
        OR (sum(points) > 0 AND coalesce(min(moved_to), min(expires_at), 'infinity') > :at::timestamptz)
    OFFSET 0) AS l;

-- name: holds
-- These holds as they stand.
SELECT h.*
FROM unnest(:holds::uuid[]) AS u(hold_id)
CROSS JOIN LATERAL (
    SELECT hold_id, account_id, state, points, captured, restored, lots, parts, order_id, redemption_id, held_at,
           expires_at, ended_at
    FROM holds WHERE hold_id = u.hold_id OFFSET 0) AS h;

-- name: store_changes!
-- What commands do to their accounts, each of these at most once: holds that are made and holds as they stand now,
-- the lines that these bring with their link of the chain, and the accounts' new position, flags and due date. Numbers
-- and ids come as text (shared/db/types.py says why).
WITH linked AS (
    INSERT INTO chain (batch, digests) SELECT :batch::uuid, :digests::bytea WHERE length(:digests::bytea) > 0),
made AS (
    INSERT INTO holds (hold_id, account_id, state, points, captured, restored, lots, parts, order_id, redemption_id,
                       held_at, expires_at, ended_at)
    SELECT u.hold_id, u.account_id, u.state, u.points, u.captured, 0, u.lots::uuid[], u.parts::bigint[], u.order_id,
           u.redemption_id, u.held_at, u.expires_at, u.ended_at
    FROM unnest(:made::text::uuid[], :made_accounts::text::bigint[], :made_states::text[], :made_points::text::bigint[],
                :made_captured::text::bigint[], :made_lots::text[], :made_parts::text[], :made_orders::text[],
                :redemptions::text[], :held_at::timestamptz[], :made_expires::timestamptz[],
                :made_ended::timestamptz[])
        AS u(hold_id, account_id, state, points, captured, lots, parts, order_id, redemption_id, held_at, expires_at,
             ended_at)),
stands AS (
    UPDATE holds h SET state = u.state, captured = u.captured, restored = u.restored, ended_at = u.ended_at
    FROM unnest(:holds::text::uuid[], :states::text[], :captured::text::bigint[], :restored::text::bigint[], :ended_at::timestamptz[])
        AS u(hold_id, state, captured, restored, ended_at)
    WHERE h.hold_id = u.hold_id),
moved AS (
    UPDATE accounts a SET
        seq = u.seq, balance = u.balance, flags = u.flags, due_at = least(a.due_at, u.due_at)
    FROM unnest(:moved::text::bigint[], :moved_seqs::text::bigint[], :moved_balances::text::bigint[], :moved_flags::text::int[],
                :dues::timestamptz[])
        AS u(account_id, seq, balance, flags, due_at)
    WHERE a.account_id = u.account_id)
INSERT INTO entries (entry_id, account_id, seq, kind, points, base, bonus, balance_after, lot_id, occurred_at,
                     recorded_at, available_at, expires_at, order_id, event_key, event_id, fingerprint, net_spend,
                     exact, multiplier, reason, explanation, batch)
SELECT u.entry_id, u.account_id, u.seq, u.kind, u.points, 0, 0, u.balance, u.lot_id, u.occurred_at,
       :recorded::timestamptz, u.available_at, u.expires_at, u.order_id, u.hold_id, u.hold_id::text, 0, 0, '0', '1',
       u.reason, u.explanation, :batch::uuid
FROM unnest(:entries::text::uuid[], :accounts::text::bigint[], :seqs::text::bigint[], :kinds::text[], :points::text::bigint[],
            :balances::text::bigint[], :lots::text::uuid[], :occurred::timestamptz[], :available::timestamptz[],
            :expires::timestamptz[], :orders::text[], :line_holds::text::uuid[], :reasons::text[], :explanations::json[])
    AS u(entry_id, account_id, seq, kind, points, balance, lot_id, occurred_at, available_at, expires_at, order_id,
         hold_id, reason, explanation);

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
-- What a person, by whichever id, reserved for an order or spent on it, and was not given back yet; the oldest first.
-- Id by id (OFFSET keeps it so): how many a person has cannot be foreseen, and all holds would be read instead.
WITH RECURSIVE person AS (
    SELECT account_of(a.customer_id) AS account_id FROM accounts a WHERE a.account_id = :account::bigint
    UNION
    SELECT m.account_id FROM merges m JOIN person p ON m.into_id = p.account_id)
SELECT h.hold_id, h.state, h.captured, h.restored
FROM person p
CROSS JOIN LATERAL (
    SELECT * FROM holds
    WHERE account_id = p.account_id AND order_id = :order::text AND (state = 'held' OR captured > restored)
    OFFSET 0) AS h
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
SELECT e.account_id, e.entry_id, e.lot_id, e.kind, e.points, e.occurred_at, e.available_at,
       coalesce(m.expires_at, e.expires_at) AS expires_at
FROM unnest(:accounts::bigint[]) AS a(account_id) JOIN entries e USING (account_id)
LEFT JOIN LATERAL moving_lots_of(a.account_id, 'infinity') m ON m.lot_id = e.lot_id
WHERE e.kind NOT IN ('expired', 'unlocked')
ORDER BY e.account_id, e.seq;

-- name: reserves
-- What holds of these accounts ever reserved, and until when.
SELECT h.account_id, u.lot_id, h.held_at, h.ended_at, u.points
FROM holds h CROSS JOIN unnest(h.lots, h.parts) AS u(lot_id, points)
WHERE h.account_id = ANY(:accounts::bigint[]);
