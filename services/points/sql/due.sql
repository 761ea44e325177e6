-- name: lock_due
-- Accounts for which time has something to tell, the longest waiting first, with their newest line's instants: from
-- them shows who is being loaded with old purchases just now. What others write to is left for the next round.
SELECT a.account_id, a.customer_id, a.seq, a.balance, a.revision, a.flags, e.recorded_at, e.occurred_at
FROM (
    SELECT account_id, customer_id, seq, balance, revision, flags FROM accounts
    WHERE due_at <= :until::timestamptz
    ORDER BY due_at LIMIT :count::int FOR UPDATE SKIP LOCKED) a
LEFT JOIN entries e ON e.account_id = a.account_id AND e.seq = a.seq;

-- name: due_lines
-- All lines of these accounts' lots that have become available without having been told so, or whose end has come
-- and whose loss has not been told, or was told before another line came; or was told of an end that has moved since.
WITH lines AS (
    SELECT e.account_id, e.lot_id, e.seq, e.kind, e.points, e.occurred_at, e.available_at, e.shop, e.order_id,
           coalesce(m.expires_at, e.expires_at) AS expires_at
    FROM unnest(:accounts::bigint[]) AS a(account_id) JOIN entries e USING (account_id)
    LEFT JOIN LATERAL moving_lots_of(a.account_id, 'infinity') m ON m.lot_id = e.lot_id),
due AS (
    SELECT account_id, lot_id FROM lines
    GROUP BY account_id, lot_id
    HAVING (min(available_at) > min(occurred_at) AND min(available_at) <= :now::timestamptz
            AND NOT bool_or(kind = 'unlocked'))
        OR (min(expires_at) <= :now::timestamptz
            AND (sum(points) <> 0
                 OR max(seq) FILTER (WHERE kind <> 'expired') > max(seq) FILTER (WHERE kind = 'expired')))
        OR sum(points) FILTER (WHERE kind = 'expired' AND occurred_at <> expires_at) <> 0)
SELECT l.*
FROM lines l JOIN due USING (account_id, lot_id)
ORDER BY l.account_id, l.seq;

-- name: held_parts
-- What holds reserved of lots that expired meanwhile: each part with the hold's beginning and end (exclusive).
SELECT u.lot_id, h.held_at, h.ended_at, u.points
FROM holds h, unnest(h.lots, h.parts) AS u(lot_id, points)
WHERE h.account_id = ANY(:accounts::bigint[]) AND h.ended_at > :since::timestamptz
  AND u.lot_id = ANY(:lots::uuid[]) AND h.held_at < h.ended_at
ORDER BY h.held_at, h.hold_id;

-- name: set_due!
-- When to look at these accounts next: at the first date to come of their lots, or when a hold ends that may keep
-- points of an expired lot; no sooner than the given instant.
UPDATE accounts a SET due_at = CASE WHEN n.due_at IS NOT NULL THEN greatest(n.due_at, :earliest::timestamptz) END
FROM (
    SELECT u.account_id, min(least(
               CASE WHEN l.available_at > :now::timestamptz AND l.available_at > l.occurred_at
                    THEN l.available_at END,
               CASE WHEN l.expires_at > :now::timestamptz AND l.points > 0 THEN l.expires_at END,
               (SELECT min(h.ended_at) FROM holds h
                WHERE h.account_id = u.account_id AND h.ended_at > :now::timestamptz))) AS due_at
    FROM unnest(:accounts::bigint[]) AS u(account_id)
    LEFT JOIN (
        SELECT e.account_id, min(e.occurred_at) AS occurred_at, min(e.available_at) AS available_at,
               coalesce(min(m.expires_at), min(e.expires_at)) AS expires_at, sum(e.points) AS points
        FROM unnest(:accounts::bigint[]) AS a(account_id) JOIN entries e USING (account_id)
        LEFT JOIN LATERAL moving_lots_of(a.account_id, 'infinity') m ON m.lot_id = e.lot_id
        GROUP BY e.account_id, e.lot_id) l USING (account_id)
    GROUP BY u.account_id) n
WHERE a.account_id = n.account_id;

-- name: postpone!
-- Look at these accounts at that instant.
UPDATE accounts SET due_at = :at::timestamptz WHERE account_id = ANY(:accounts::bigint[]);
