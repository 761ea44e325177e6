-- What must agree between the databases. Each pair of statements gives rows (key, facts …) in the same order, so that
-- both sides can be read alongside each other, however many there are.

-- name: awards
-- points: what every credited purchase and activity counts for, before corrections. A merged customer (256: FLAG_MERGED)
-- is who they live on as: what they buy is credited there, and counts for the one person.
SELECT e.entry_id AS key,
       CASE WHEN a.flags & 256 = 0 THEN a.customer_id
            ELSE (SELECT s.customer_id FROM accounts s WHERE s.account_id = account_of(a.customer_id)) END AS customer_id,
       e.shop, e.order_id, e.base, e.net_spend, e.occurred_at
FROM entries e JOIN accounts a USING (account_id)
WHERE e.kind = 'earned' OR (e.kind = 'activity' AND e.entry_id = e.lot_id)
ORDER BY e.entry_id;

-- name: qualifying
-- tiers: what every credited purchase and activity counts for, before corrections.
SELECT q.entry_id AS key, coalesce(p.customer_id, a.customer_id) AS customer_id, q.shop, q.order_id, q.base, q.net_spend,
       q.occurred_at
FROM qualifying q JOIN accounts a USING (account_id) LEFT JOIN accounts p ON p.account_id = a.person_id
ORDER BY q.entry_id;

-- name: refunded
-- points: base points of every purchase that was refunded, in full, and what its refunds take of them: what the last
-- clawback of each says.
SELECT e.lot_id AS key, CASE WHEN w.purchase_id IS NULL THEN sum(e.base) ELSE 0 END::bigint AS base,
       CASE WHEN w.purchase_id IS NULL THEN c.taken ELSE 0 END AS taken
FROM entries e LEFT JOIN withdrawals w ON w.purchase_id = e.lot_id
JOIN (SELECT lot_id, sum(base)::bigint AS taken
      FROM (SELECT DISTINCT ON (event_key, lot_id) lot_id, (explanation::json ->> 'b')::bigint AS base
            FROM entries WHERE kind = 'clawed_back' ORDER BY event_key, lot_id, seq DESC) last
      GROUP BY lot_id) c USING (lot_id)
WHERE e.kind IN ('earned', 'campaign')
GROUP BY e.lot_id, c.taken, w.purchase_id
ORDER BY e.lot_id;

-- name: standings
-- tiers: the same.
SELECT s.lot_id AS key, s.base, coalesce(sum(r.base), 0)::bigint AS taken
FROM (SELECT DISTINCT ON (lot_id) * FROM standings ORDER BY lot_id, seq DESC) s
LEFT JOIN LATERAL json_to_recordset(s.reductions) AS r(base bigint) ON true
WHERE EXISTS (SELECT FROM standings t WHERE t.lot_id = s.lot_id AND t.refunded_at IS NOT NULL)
GROUP BY s.lot_id, s.base
ORDER BY s.lot_id;

-- name: corrected
-- points: base points of every lot that was corrected or taken back without having been refunded.
SELECT lot_id AS key,
       CASE WHEN bool_or(kind IN ('withdrawn', 'reversed')) THEN 0
            ELSE sum(base) FILTER (WHERE kind IN ('earned', 'campaign', 'activity')) END::bigint AS base
FROM entries
GROUP BY lot_id
HAVING count(*) FILTER (WHERE kind IN ('campaign', 'activity', 'withdrawn') AND entry_id <> lot_id) > 0
   AND count(*) FILTER (WHERE kind = 'clawed_back') = 0
ORDER BY lot_id;

-- name: restated
-- tiers: the same.
SELECT DISTINCT ON (lot_id) lot_id AS key, base FROM standings s
WHERE NOT EXISTS (SELECT FROM standings t WHERE t.lot_id = s.lot_id AND t.refunded_at IS NOT NULL)
ORDER BY lot_id, seq DESC;

-- name: timelines
-- Any service: its customers' ways through the levels, as far as there is one.
SELECT customer_id AS key, timeline::text AS timeline
FROM accounts WHERE timeline IS NOT NULL AND timeline::text <> '[]'
ORDER BY customer_id COLLATE "C";

-- name: promotions
-- tiers and rewards: the promotions of those as whom others live on, which are not those of their ways.
SELECT customer_id AS key, promotions::text AS timeline
FROM accounts WHERE promotions IS NOT NULL AND promotions::text <> '[]'
ORDER BY customer_id COLLATE "C";

-- name: merged
-- points: whoever lives on as another, and as whom in the end.
SELECT a.customer_id AS key, s.customer_id AS survivor
FROM merges m JOIN accounts a USING (account_id) JOIN accounts s ON s.account_id = account_of(a.customer_id)
ORDER BY a.customer_id COLLATE "C";

-- name: persons
-- tiers and rewards: the same.
SELECT a.customer_id AS key, s.customer_id AS survivor
FROM accounts a JOIN accounts s ON s.account_id = a.person_id
WHERE a.person_id <> a.account_id
ORDER BY a.customer_id COLLATE "C";

-- name: credited
-- points: whom it has ever credited, and whose ids were merged. (An account alone may stand for an event that was
-- refused.)
SELECT customer_id AS key FROM accounts
WHERE seq > 0 OR account_id IN (SELECT account_id FROM merges UNION SELECT into_id FROM merges)
ORDER BY customer_id COLLATE "C";

-- name: customers
-- Any service: whom it knows.
SELECT customer_id AS key FROM accounts ORDER BY customer_id COLLATE "C";

-- name: miscounted
-- Any service: partitions where the verdicts do not add up to the records passed.
SELECT topic, partition, next_offset, applied, duplicates, refused, parked, poison
FROM offsets WHERE next_offset <> applied + duplicates + refused + parked + poison
ORDER BY topic, partition;
