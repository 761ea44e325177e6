-- name: expiries
-- A page of the dates at which a customer's points end, as things stand at an instant, the next one first: what is
-- in the lots, pending ones included, and not reserved by a hold. One row of nulls if there are none, no row for an
-- unknown customer. Lines that only tell what time does are left out, here as in every balance.
SELECT d.*
FROM accounts a
LEFT JOIN LATERAL (
    SELECT l.expires_at, sum(l.points - coalesce(h.points, 0))::bigint AS points, count(*)::bigint AS lots
    FROM (
        SELECT lot_id, min(expires_at) AS expires_at, sum(points)::bigint AS points
        FROM entries
        WHERE account_id = a.account_id AND expires_at > :at::timestamptz
          AND expires_at > coalesce(:after::timestamptz, '-infinity')
          AND ((:live::boolean AND kind <> 'covered') OR occurred_at <= :at::timestamptz)
          AND kind NOT IN ('expired', 'unlocked')
        GROUP BY lot_id) l
    LEFT JOIN (
        SELECT u.lot_id, sum(u.points) AS points
        FROM holds, unnest(lots, parts) AS u(lot_id, points)
        WHERE account_id = a.account_id AND held_at <= :at::timestamptz AND ended_at > :at::timestamptz
        GROUP BY u.lot_id) h USING (lot_id)
    WHERE l.points > coalesce(h.points, 0)
    GROUP BY l.expires_at ORDER BY l.expires_at LIMIT :rows::int) d ON true
WHERE a.account_id = account_of(:customer::text)
ORDER BY d.expires_at;
