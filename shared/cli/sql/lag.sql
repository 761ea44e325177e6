-- name: standing
-- Consumed positions and unpublished events of a service: one statement, hence one snapshot of both.
SELECT (SELECT coalesce(json_agg(json_build_array(topic, partition, next_offset)), '[]')
        FROM offsets) AS positions,
       (SELECT coalesce(sum(cardinality(keys)), 0)::bigint FROM outbox) AS outbox;
