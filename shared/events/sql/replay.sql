-- name: take_outbox
-- Take everything that waits to be published, in order.
WITH gone AS (DELETE FROM outbox RETURNING id, topic, keys, payloads)
SELECT topic, keys, payloads FROM gone ORDER BY id;
