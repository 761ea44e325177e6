-- name: service_status
-- Positions, what became of the records before them, what waits to be published, and open dead letters by reason.
SELECT (SELECT coalesce(json_agg(json_build_array(topic, partition, next_offset)), '[]')
        FROM offsets) AS positions,
       (SELECT json_build_object('applied', coalesce(sum(applied), 0), 'duplicates', coalesce(sum(duplicates), 0),
                                 'refused', coalesce(sum(refused), 0), 'parked', coalesce(sum(parked), 0),
                                 'poison', coalesce(sum(poison), 0))
        FROM offsets) AS counters,
       (SELECT coalesce(sum(cardinality(keys)), 0)::bigint FROM outbox) AS outbox,
       (SELECT coalesce(json_agg(json_build_object('field', field, 'reason', reason, 'count', letters)), '[]')
        FROM (SELECT field, reason, count(*) AS letters FROM dead_letters
              WHERE state = 'open' GROUP BY field, reason
              ORDER BY letters DESC, field, reason LIMIT 20) AS worst) AS dead_letters,
       (SELECT count(*) FROM dead_letters WHERE state = 'open') AS dead_letter_count;
