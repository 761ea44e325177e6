-- name: own_relay
-- One process of a service publishes, so that the order per key holds; the lock goes with the connection.
SELECT pg_try_advisory_lock(hashtext('outbox relay'));

-- name: pending
-- Let go of what the broker has acknowledged, and give the oldest rows that are left: one round trip for both.
-- Sequence order is not commit order, so no position is remembered.
WITH acknowledged AS (DELETE FROM outbox WHERE id = ANY(:done::bigint[]))
SELECT id, topic, keys, payloads, headers, packed FROM outbox
WHERE id <> ALL(:done::bigint[]) ORDER BY id LIMIT :count;

-- name: forget!
-- Let go of what the broker has acknowledged.
DELETE FROM outbox WHERE id = ANY(:done::bigint[]);
