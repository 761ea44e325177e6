-- name: list_letters
-- Dead letters of one service, newest first; empty filters let everything through.
SELECT id, topic, partition, "offset", field, reason, service, recorded_at, state, replays, note,
       octet_length(value) AS bytes, headers::text AS headers
FROM dead_letters
WHERE (:state::text = 'all' OR state = :state)
  AND (:reason::text = '' OR strpos(lower(reason || ' ' || field), lower(:reason)) > 0)
ORDER BY id DESC LIMIT :rows::int;

-- name: get_letters
-- Dead letters with their original bytes.
SELECT id, topic, partition, "offset", key, value, headers::text AS headers, field, reason, service,
       recorded_at, state, replays, note
FROM dead_letters WHERE id = ANY(:ids::bigint[]) ORDER BY id;

-- name: open_ids
-- What is open and fits the filter, oldest first: the order in which it shall come again.
SELECT id FROM dead_letters
WHERE state = 'open' AND (:reason::text = '' OR strpos(lower(reason || ' ' || field), lower(:reason)) > 0)
ORDER BY id;

-- name: mark_replayed!
-- These are on their topic again. A letter that dies once more is a new row.
UPDATE dead_letters SET state = 'replayed', replays = u.replays
FROM unnest(:ids::bigint[], :replays::int[]) AS u(id, replays)
WHERE dead_letters.id = u.id;

-- name: mark_discarded
-- Given up, with the reason; the row and its bytes stay.
UPDATE dead_letters SET state = 'discarded', note = :note
WHERE id = ANY(:ids::bigint[]) AND state = 'open'
RETURNING id;
