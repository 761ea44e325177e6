-- name: expiries
-- A page of the dates at which a customer's points end, as things stand at an instant, the next one first: what is
-- in the lots, pending ones included, and not reserved by a hold. One row of nulls if there are none, no row for an
-- unknown customer. Lines that only tell what time does are left out, here as in every balance.
SELECT d.*
FROM accounts a
LEFT JOIN LATERAL (
    SELECT l.expires_at, sum(l.points - coalesce(h.points, 0))::bigint AS points, count(*)::bigint AS lots
    FROM (
        SELECT e.lot_id, coalesce(min(m.expires_at), min(e.expires_at)) AS expires_at, sum(e.points)::bigint AS points
        FROM entries e
        LEFT JOIN moving_lots_of(
            a.account_id, greatest(:at::timestamptz, CASE WHEN :live::boolean THEN 'infinity'::timestamptz END)
        ) m USING (lot_id)
        WHERE e.account_id = a.account_id AND coalesce(m.expires_at, e.expires_at)
                > greatest(:at::timestamptz, coalesce(:after::timestamptz, '-infinity'))
          AND ((:live::boolean AND e.kind <> 'covered') OR e.occurred_at <= :at::timestamptz)
          AND e.kind NOT IN ('expired', 'unlocked')
        GROUP BY e.lot_id) l
    LEFT JOIN (
        SELECT u.lot_id, sum(u.points) AS points
        FROM holds, unnest(lots, parts) AS u(lot_id, points)
        WHERE account_id = a.account_id AND held_at <= :at::timestamptz AND ended_at > :at::timestamptz
        GROUP BY u.lot_id) h USING (lot_id)
    WHERE l.points > coalesce(h.points, 0)
    GROUP BY l.expires_at ORDER BY l.expires_at LIMIT :rows::int) d ON true
WHERE a.account_id = account_of(:customer::text)
ORDER BY d.expires_at;
