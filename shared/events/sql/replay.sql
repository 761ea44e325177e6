-- name: take_outbox
-- Take what waits to be published, in order, some rows at a time.
WITH gone AS (DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT :count::int)
              RETURNING id, topic, keys, payloads)
SELECT topic, keys, payloads FROM gone ORDER BY id;
