-- name: begin_offsets!
-- A partition read for the first time gets its row, for there is nothing to lock without one.
INSERT INTO offsets (topic, partition, next_offset)
SELECT t, p, 0 FROM unnest(:topics::text[], :partitions::int[]) AS u(t, p)
ORDER BY t, p
ON CONFLICT DO NOTHING;

-- name: lock_offsets
-- The stored positions of the given partitions, held until commit: the fence against a second owner.
SELECT topic, partition, next_offset
FROM offsets
WHERE (topic, partition) IN (SELECT * FROM unnest(:topics::text[], :partitions::int[]))
ORDER BY topic, partition
FOR UPDATE;

-- name: move_offsets!
-- Move the positions forward and count what became of the records.
INSERT INTO offsets AS o (topic, partition, next_offset, applied, duplicates, refused, parked, poison)
SELECT * FROM unnest(:topics::text[], :partitions::int[], :next_offsets::bigint[], :applied::bigint[],
                     :duplicates::bigint[], :refused::bigint[], :parked::bigint[], :poison::bigint[])
ON CONFLICT (topic, partition) DO UPDATE SET
    next_offset = greatest(o.next_offset, excluded.next_offset),
    applied     = o.applied + excluded.applied,
    duplicates  = o.duplicates + excluded.duplicates,
    refused     = o.refused + excluded.refused,
    parked      = o.parked + excluded.parked,
    poison      = o.poison + excluded.poison,
    updated_at  = now();

-- name: move_on^
-- Move the positions if nobody else has meanwhile, and hand one topic's events to the outbox: how many were moved, and
-- the outbox row's id.
WITH positions AS (
    UPDATE offsets AS o SET
        next_offset = u.next_offset,
        applied     = o.applied + u.applied,
        duplicates  = o.duplicates + u.duplicates,
        refused     = o.refused + u.refused,
        parked      = o.parked + u.parked,
        poison      = o.poison + u.poison,
        updated_at  = now()
    FROM unnest(:topics::text[], :partitions::int[], :next_offsets::bigint[], :applied::bigint[],
                :duplicates::bigint[], :refused::bigint[], :parked::bigint[], :poison::bigint[],
                :first_offsets::bigint[])
        AS u(topic, partition, next_offset, applied, duplicates, refused, parked, poison, first_offset)
    WHERE o.topic = u.topic AND o.partition = u.partition AND o.next_offset <= u.first_offset
    RETURNING 1),
handed AS (
    INSERT INTO outbox (topic, keys, payloads, packed)
    SELECT :topic::text, :keys::bytea[], :payloads::bytea[], :packed::bytea WHERE :topic::text IS NOT NULL
    RETURNING id)
SELECT count(*) AS moved, (SELECT id FROM handed) AS sent FROM positions;

-- name: positions
-- Where to go on in every partition that was ever read.
SELECT topic, partition, next_offset FROM offsets;

-- name: rewind!
-- A topic ends before our position (made anew, or its tail lost): read it again from the start.
UPDATE offsets SET next_offset = 0, updated_at = now()
WHERE topic = :topic AND partition = :partition;

-- name: add_outbox$
-- Everything one transaction sends to one topic, as one row: its id.
INSERT INTO outbox (topic, keys, payloads, headers)
VALUES (:topic, :keys::bytea[], :payloads::bytea[], :headers::text[])
RETURNING id;

-- name: notify_outbox
-- Wake the process that owns the relay, where that is another one than ours.
SELECT pg_notify('outbox', '');

-- name: add_dead_letters!
-- Records that can never be applied, with their original bytes.
INSERT INTO dead_letters (topic, partition, "offset", key, value, headers, field, reason, service)
SELECT * FROM unnest(:topics::text[], :partitions::int[], :offsets::bigint[], :keys::bytea[], :values::bytea[],
                     :headers::json[], :fields::text[], :reasons::text[], :services::text[]);
