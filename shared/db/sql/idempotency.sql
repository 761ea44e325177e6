-- name: claim^
-- Take the key for this transaction if nobody holds it, and tell what it answered before, if it did.
WITH taken AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(:lock::bigint) AS ours)
SELECT taken.ours, i.fingerprint, i.status, i.headers, i.body
FROM taken LEFT JOIN idempotency i ON i.id = :id::uuid;

-- name: finish!
-- Keep the answer and hand the events to the outbox (a row a topic). Who publishes them is woken after the commit.
WITH kept AS (
    INSERT INTO idempotency (id, client, operation, key, fingerprint, status, headers, body, recorded_at)
    VALUES (:id::uuid, :client::text, :operation::text, :key::text, :fingerprint::uuid, :status::smallint,
            :headers::json, :body::bytea, :recorded_at::timestamptz))
INSERT INTO outbox (topic, keys, payloads)
SELECT topic, array_agg(key ORDER BY n), array_agg(payload ORDER BY n)
FROM unnest(:topics::text[], :keys::bytea[], :payloads::bytea[]) WITH ORDINALITY AS u(topic, key, payload, n)
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
