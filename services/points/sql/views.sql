-- name: balance
-- What a customer has at an instant: one row for a known customer, none for an unknown one. Every entry carries the
-- dates of its lot, so a lot that has expired or is not unlocked yet drops out by itself; no job need have run. Where
-- activity keeps lots, their ends are those that were known by then.
-- What happened after the instant is left out, except when it is now: shops' clocks may run ahead of ours. What pays
-- for a deficit counts from its instant on, which may be to come. Holds are those that were live then.
WITH account AS (SELECT account_id FROM accounts WHERE account_id = account_of(:customer::text)),
reserved AS (
    SELECT u.lot_id, sum(u.points) AS points
    FROM account JOIN holds h USING (account_id) CROSS JOIN unnest(h.lots, h.parts) AS u(lot_id, points)
    WHERE h.held_at > :at::timestamptz - interval '8 days' AND h.ended_at > :at::timestamptz
      AND (:live::boolean OR h.held_at <= :at::timestamptz)
    GROUP BY u.lot_id),
lots AS (
    SELECT l.points, l.earned, l.expires_at, l.available_at > :at::timestamptz AS pending,
           l.available_at <= :at::timestamptz AND (l.expires_at IS NULL OR l.expires_at > :at::timestamptz) AS open,
           coalesce(r.points, 0) AS reserved
    FROM (
        SELECT e.lot_id, min(e.available_at) AS available_at,
               coalesce(min(m.expires_at), min(e.expires_at)) AS expires_at, sum(e.points) AS points,
               sum(e.points) FILTER (
                   WHERE e.kind IN ('earned', 'tier_bonus', 'campaign', 'activity')) AS earned
        FROM account a JOIN entries e USING (account_id)
        LEFT JOIN LATERAL moving_lots_of(
            a.account_id, greatest(:at::timestamptz, CASE WHEN :live::boolean THEN 'infinity'::timestamptz END)
        ) m ON m.lot_id = e.lot_id
        -- Lines that only tell what time does are left out: by the dates it has happened anyway.
        WHERE e.kind NOT IN ('expired', 'unlocked')
          AND ((:live::boolean AND e.kind <> 'covered') OR e.occurred_at <= :at::timestamptz)
        GROUP BY e.lot_id) l
    LEFT JOIN reserved r USING (lot_id)),
next AS (
    SELECT expires_at, sum(points - reserved)::bigint AS points
    FROM lots WHERE open AND points > reserved AND expires_at IS NOT NULL
    GROUP BY expires_at ORDER BY expires_at LIMIT 1)
SELECT greatest(coalesce(sum(greatest(l.points, 0) - l.reserved) FILTER (WHERE l.open), 0), 0)::bigint AS available,
       coalesce(sum(greatest(l.points, 0)) FILTER (WHERE l.pending), 0)::bigint AS pending,
       coalesce((SELECT sum(points) FROM reserved), 0)::bigint AS held,
       coalesce(sum(greatest(-l.points, 0)), 0)::bigint AS deficit,
       coalesce(sum(l.earned), 0)::bigint AS lifetime_earned,
       (SELECT points FROM next) AS expiring_points,
       (SELECT expires_at FROM next) AS expiring_at
FROM account a LEFT JOIN lots l ON true
GROUP BY a.account_id;

-- name: entries
-- A page of a customer's ledger lines, newest first, before a given line; one row of nulls for a customer without
-- any, no row for an unknown one.
SELECT e.seq, e.entry_id, e.kind, e.points, e.base, e.bonus, e.balance_after, e.lot_id, e.occurred_at, e.recorded_at,
       e.available_at, coalesce(m.expires_at, e.expires_at) AS expires_at, e.shop, e.order_id, e.event_id, e.tier,
       e.multiplier, e.reason, e.actor, e.explanation
FROM accounts a
LEFT JOIN LATERAL (
    SELECT * FROM entries WHERE account_id = a.account_id AND seq < :before::bigint
    ORDER BY seq DESC LIMIT :rows::int) e ON true
LEFT JOIN LATERAL moving_lots_of(a.account_id, 'infinity') m ON m.lot_id = e.lot_id
WHERE a.account_id = account_of(:customer::text)
ORDER BY e.seq DESC;

-- name: lots
-- A page of a customer's lots, the newest first, after a given one. What a lot is, tells the line that opened it;
-- what is in it, all of them together but those that only tell what time does. reserved is what live holds keep.
SELECT l.lot_id, l.shop, l.order_id, l.occurred_at, l.available_at,
       coalesce(m.expires_at, l.expires_at) AS expires_at, l.points, coalesce((
           SELECT sum(u.points) FROM holds h CROSS JOIN unnest(h.lots, h.parts) AS u(lot_id, points)
           WHERE h.account_id = a.account_id AND u.lot_id = l.lot_id
             AND h.held_at > :now::timestamptz - interval '8 days' AND h.ended_at > :now::timestamptz), 0
       )::bigint AS reserved
FROM accounts a
LEFT JOIN LATERAL (
    SELECT lot_id, min(shop) FILTER (WHERE entry_id = lot_id) AS shop,
           min(order_id) FILTER (WHERE entry_id = lot_id) AS order_id,
           coalesce(min(occurred_at) FILTER (WHERE entry_id = lot_id), min(occurred_at)) AS occurred_at,
           min(available_at) AS available_at, min(expires_at) AS expires_at, sum(points)::bigint AS points
    FROM entries
    WHERE account_id = a.account_id AND kind NOT IN ('expired', 'unlocked')
      AND (kind <> 'covered' OR occurred_at <= :now::timestamptz)
    GROUP BY lot_id
    HAVING :occurred::timestamptz IS NULL
        OR (coalesce(min(occurred_at) FILTER (WHERE entry_id = lot_id), min(occurred_at)), lot_id)
           < (:occurred::timestamptz, :lot::uuid)
    ORDER BY 4 DESC, lot_id DESC LIMIT :rows::int) l ON true
LEFT JOIN LATERAL moving_lots_of(a.account_id, 'infinity') m ON m.lot_id = l.lot_id
WHERE a.account_id = account_of(:customer::text)
ORDER BY l.occurred_at DESC, l.lot_id DESC;

-- name: explained_entry
-- One ledger line with the reasons stored beside it.
SELECT e.entry_id, e.kind, e.points, e.base, e.bonus, e.balance_after, e.lot_id, e.occurred_at, e.recorded_at,
       e.available_at, coalesce(m.expires_at, e.expires_at) AS expires_at, e.shop, e.order_id, e.event_id, e.tier,
       e.multiplier, e.reason, e.actor, e.explanation,
       a.customer_id
FROM entries e JOIN accounts a USING (account_id)
LEFT JOIN LATERAL moving_lots_of(a.account_id, 'infinity') m ON m.lot_id = e.lot_id
WHERE e.entry_id = :entry::uuid;
