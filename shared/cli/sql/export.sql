-- name: positions
-- How far the inputs have been read.
SELECT topic, partition, next_offset FROM offsets WHERE topic = ANY(:topics::text[]);

-- name: buried
-- Records that died: what was refused once stays refused, whatever would be thought of it now.
SELECT topic, partition, "offset" FROM dead_letters WHERE topic = ANY(:topics::text[]);
