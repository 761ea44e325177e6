-- name: outcome
-- What a replay gave each customer: points granted and taken back, what is there at an instant (less what is owed),
-- what has expired by then, and a digest of all lots with their dates.
WITH lots AS (
    SELECT e.account_id, e.lot_id, min(e.available_at) AS available_at,
           coalesce(min(m.expires_at), min(e.expires_at)) AS expires_at, sum(e.points) AS points,
           sum(e.points) FILTER (WHERE e.kind IN ('earned', 'tier_bonus', 'campaign', 'activity')) AS earned,
           sum(e.points) FILTER (WHERE e.kind = 'clawed_back') AS taken
    FROM entries e LEFT JOIN moving_lots m USING (lot_id) WHERE e.kind NOT IN ('expired', 'unlocked')
    GROUP BY e.account_id, e.lot_id)
SELECT a.customer_id, a.timeline,
       coalesce(sum(l.earned), 0)::bigint AS earned,
       coalesce(-sum(l.taken), 0)::bigint AS taken,
       coalesce(sum(l.points) FILTER (
           WHERE l.points < 0 OR l.expires_at IS NULL OR l.expires_at > :now::timestamptz), 0)::bigint AS left,
       coalesce(sum(l.points) FILTER (WHERE l.points > 0 AND l.expires_at <= :now::timestamptz), 0)::bigint AS expired,
       md5(string_agg(concat_ws('|', l.lot_id, l.points, l.available_at AT TIME ZONE 'UTC',
                                l.expires_at AT TIME ZONE 'UTC'), ',' ORDER BY l.lot_id)) AS digest
FROM accounts a LEFT JOIN lots l USING (account_id)
GROUP BY a.account_id
ORDER BY a.customer_id;

-- name: vouchers
-- What a replay gave each customer in vouchers: how many, and a digest of what they are, with their dates.
SELECT a.customer_id, count(*)::int AS vouchers,
       md5(string_agg(concat_ws('|', v.cause_type, v.cause_id, v.definition, v.terms, v.issued_at AT TIME ZONE 'UTC',
                                v.expires_at AT TIME ZONE 'UTC'), ',' ORDER BY v.voucher_id)) AS digest
FROM vouchers v JOIN accounts a USING (account_id)
WHERE v.state <> 'revoked'
GROUP BY a.customer_id
ORDER BY a.customer_id;
