-- name: lines_of_causes
-- The lines that some causes wrote to an account each, the first of them by its id, in order.
SELECT e.*, a.customer_id
FROM entries f
JOIN entries e ON e.account_id = f.account_id AND e.seq >= f.seq AND e.event_key = f.event_key
JOIN accounts a ON a.account_id = f.account_id
WHERE f.entry_id = ANY(:firsts::uuid[])
ORDER BY e.account_id, e.seq;

-- name: line^
-- A ledger line with its customer, and whether the line that reverses it is there.
SELECT e.*, a.customer_id, EXISTS (SELECT FROM entries WHERE entry_id = :reversal::uuid) AS reversed
FROM entries e JOIN accounts a USING (account_id)
WHERE e.entry_id = :entry::uuid;

-- name: ask_second_person!
-- Set a correction aside until a second person decides.
INSERT INTO corrections (correction_id, account_id, points, reason_code, reason, expires_at, fingerprint,
                         requested_by, requested_at)
VALUES (:correction::uuid, :account::bigint, :points::bigint, :reason_code::text, :reason::text,
        :expires_at::timestamptz, :fingerprint::bigint, :requested_by::text, :requested_at::timestamptz);

-- name: correction^
-- A correction that needed a second person, with its customer.
SELECT c.*, a.customer_id FROM corrections c JOIN accounts a USING (account_id)
WHERE c.correction_id = :correction::uuid;

-- name: decide!
-- What the second person said.
UPDATE corrections
SET state = :state::text, decided_by = :decided_by::text, decided_at = :decided_at::timestamptz, note = :note::text
WHERE correction_id = :correction::uuid;

-- name: corrections_in_state
-- A page of the corrections in a state, or in any, the longest waiting first, after a given one.
SELECT c.*, a.customer_id FROM corrections c JOIN accounts a USING (account_id)
WHERE (:state::text IS NULL OR c.state = :state::text)
  AND (:after_time::timestamptz IS NULL
       OR (c.requested_at, c.correction_id) > (:after_time::timestamptz, :after::uuid))
ORDER BY c.requested_at, c.correction_id LIMIT :rows::int;
