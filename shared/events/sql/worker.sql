-- name: figures^
-- What an operator looks at first: what waits to be published, for how long, and what was buried.
SELECT count(*) AS outbox,
       coalesce(extract(epoch FROM now() - min(recorded_at)), 0)::float8 AS outbox_age,
       (SELECT count(*) FROM dead_letters WHERE state = 'open') AS dead_letters
FROM outbox;

-- name: positions
-- How far each partition has been consumed.
SELECT topic, partition, next_offset FROM offsets;
