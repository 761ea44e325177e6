-- name: own_relay
-- One process of a service publishes, so that the order per key holds; the lock goes with the connection.
SELECT pg_try_advisory_lock(hashtext('outbox relay'));

-- name: pending
-- The oldest rows of the outbox. Sequence order is not commit order, so no position is remembered.
SELECT id, topic, keys, payloads, headers FROM outbox ORDER BY id LIMIT :count;

-- name: published!
-- The broker has acknowledged these.
DELETE FROM outbox WHERE id = ANY(:ids::bigint[]);
