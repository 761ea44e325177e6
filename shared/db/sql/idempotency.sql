-- name: claim
-- Take the keys that nobody holds for this transaction; tell only of the others, and of what keys answered before.
WITH taken AS MATERIALIZED (
    SELECT u.id, pg_try_advisory_xact_lock(u.lock) AS ours FROM unnest(:locks::text::bigint[], :ids::text::uuid[]) AS u(lock, id))
SELECT t.id, i.fingerprint, i.status, i.headers, i.body
FROM taken t
LEFT JOIN LATERAL (
    SELECT fingerprint, status, headers, body FROM idempotency WHERE id = t.id OFFSET 0) AS i ON true
WHERE i.status IS NOT NULL OR NOT t.ours;

-- name: finish!
-- Keep the answers and hand the events to the outbox (a row a topic). Who publishes them is woken after the commit.
WITH kept AS (
    INSERT INTO idempotency (id, client, operation, key, fingerprint, status, headers, body, recorded_at)
    SELECT u.*, :recorded_at::timestamptz
    FROM unnest(:ids::text::uuid[], :clients::text[], :operations::text[], :keys::text[], :fingerprints::text::uuid[],
                :statuses::text::smallint[], :headers::json[], :bodies::bytea[]) AS u)
INSERT INTO outbox (topic, keys, payloads)
SELECT topic, array_agg(key ORDER BY n), array_agg(payload ORDER BY n)
FROM unnest(:topics::text[], :event_keys::bytea[], :payloads::bytea[]) WITH ORDINALITY AS u(topic, key, payload, n)
GROUP BY topic;

-- name: wake
-- Wake the process that owns the relay.
SELECT pg_notify('outbox', '');

-- name: forget$
-- Drop some answers that are older than promised: how many were dropped.
WITH dropped AS (
    DELETE FROM idempotency WHERE id IN (
        SELECT id FROM idempotency WHERE recorded_at < :before::timestamptz LIMIT :rows::int)
    RETURNING 1)
SELECT count(*) FROM dropped;
