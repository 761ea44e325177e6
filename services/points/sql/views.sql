-- name: balance
-- What a customer has at an instant: one row for a known customer, none for an unknown one. Every entry carries the
-- dates of its lot, so a lot that has expired or is not unlocked yet drops out by itself; no job need have run.
-- What happened after the instant is left out, except when it is now: shops' clocks may run ahead of ours.
WITH lots AS (
    SELECT e.expires_at,
           coalesce(sum(e.points) FILTER (
               WHERE e.available_at <= :at::timestamptz
                 AND (e.expires_at IS NULL OR e.expires_at > :at::timestamptz)), 0) AS open,
           coalesce(sum(e.points) FILTER (WHERE e.available_at > :at::timestamptz), 0) AS pending,
           sum(e.points) AS earned
    FROM accounts a JOIN entries e USING (account_id)
    WHERE a.customer_id = :customer::text AND (:live::boolean OR e.occurred_at <= :at::timestamptz)
      -- Lines that only tell what time does: by the dates it has happened anyway.
      AND e.kind NOT IN ('expired', 'unlocked')
    GROUP BY e.expires_at),
next AS (
    SELECT expires_at, open FROM lots WHERE open > 0 AND expires_at IS NOT NULL ORDER BY expires_at LIMIT 1)
SELECT coalesce(sum(l.open), 0)::bigint AS open,
       coalesce(sum(l.pending), 0)::bigint AS pending,
       coalesce(sum(l.earned), 0)::bigint AS lifetime_earned,
       (SELECT open::bigint FROM next) AS expiring_points,
       (SELECT expires_at FROM next) AS expiring_at
FROM accounts a LEFT JOIN lots l ON true
WHERE a.customer_id = :customer::text
GROUP BY a.account_id;

-- name: entries
-- A page of a customer's ledger lines, newest first, before a given line; one row of nulls for a customer without
-- any, no row for an unknown one.
SELECT e.seq, e.entry_id, e.kind, e.points, e.base, e.bonus, e.balance_after, e.lot_id, e.occurred_at, e.recorded_at,
       e.available_at, e.expires_at, e.shop, e.order_id, e.event_id, e.tier, e.multiplier, e.reason, e.actor, e.explanation
FROM accounts a
LEFT JOIN LATERAL (
    SELECT * FROM entries WHERE account_id = a.account_id AND seq < :before::bigint
    ORDER BY seq DESC LIMIT :rows::int) e ON true
WHERE a.customer_id = :customer::text
ORDER BY e.seq DESC;

-- name: lots
-- A page of a customer's lots, newest purchase first, after a given one. A lot is an award with its corrections,
-- which bear the award's dates and order; so any of its lines tells them.
SELECT l.*
FROM accounts a
LEFT JOIN LATERAL (
    SELECT lot_id, min(shop) AS shop, min(order_id) AS order_id, min(occurred_at) AS occurred_at,
           min(available_at) AS available_at, min(expires_at) AS expires_at, sum(points)::bigint AS points
    FROM entries
    WHERE account_id = a.account_id AND kind NOT IN ('expired', 'unlocked')
      AND (:occurred::timestamptz IS NULL OR (occurred_at, lot_id) < (:occurred::timestamptz, :lot::uuid))
    GROUP BY lot_id
    ORDER BY min(occurred_at) DESC, lot_id DESC LIMIT :rows::int) l ON true
WHERE a.customer_id = :customer::text
ORDER BY l.occurred_at DESC, l.lot_id DESC;

-- name: explained_entry
-- One ledger line with the reasons stored beside it.
SELECT e.entry_id, e.kind, e.points, e.base, e.bonus, e.balance_after, e.lot_id, e.occurred_at, e.recorded_at,
       e.available_at, e.expires_at, e.shop, e.order_id, e.event_id, e.tier, e.multiplier, e.reason, e.actor, e.explanation,
       a.customer_id
FROM entries e JOIN accounts a USING (account_id)
WHERE e.entry_id = :entry::uuid;
