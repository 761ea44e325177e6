-- What must agree between the databases. Each pair of statements gives rows (key, facts …) in the same order, so that
-- both sides can be read alongside each other, however many there are.

-- name: awards
-- points: what every credited purchase counts for.
SELECT e.entry_id AS key, a.customer_id, e.shop, e.order_id, e.base, e.net_spend, e.occurred_at
FROM entries e JOIN accounts a USING (account_id) WHERE e.kind = 'earned'
ORDER BY e.entry_id;

-- name: qualifying
-- tiers: what every credited purchase counts for.
SELECT q.entry_id AS key, a.customer_id, q.shop, q.order_id, q.base, q.net_spend, q.occurred_at
FROM qualifying q JOIN accounts a USING (account_id)
ORDER BY q.entry_id;

-- name: timelines
-- Any service: its customers' ways through the levels, as far as there is one.
SELECT customer_id AS key, timeline::text AS timeline
FROM accounts WHERE timeline IS NOT NULL AND timeline::text <> '[]'
ORDER BY customer_id COLLATE "C";

-- name: credited
-- points: whom it has ever credited. (An account alone may stand for an event that was refused.)
SELECT customer_id AS key FROM accounts WHERE seq > 0 ORDER BY customer_id COLLATE "C";

-- name: customers
-- Any service: whom it knows.
SELECT customer_id AS key FROM accounts ORDER BY customer_id COLLATE "C";

-- name: miscounted
-- Any service: partitions where the verdicts do not add up to the records passed.
SELECT topic, partition, next_offset, applied, duplicates, refused, parked, poison
FROM offsets WHERE next_offset <> applied + duplicates + refused + parked + poison
ORDER BY topic, partition;
