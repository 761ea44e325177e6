-- What no event tells, or what was decided once when it was told: given as JSON, a row a line, with customers by their
-- own ids, and taken into another database (docs/decisions/0037-who-may-write-and-how-it-is-rebuilt.md).

-- name: give_lines
-- The lines of the ledger that people, tills and other services caused; those of a merge follow from its event.
SELECT row_to_json(f)::text AS fact
FROM (SELECT e.*, a.customer_id FROM entries e JOIN accounts a USING (account_id) WHERE e.kind = ANY(:kinds::text[])
        AND coalesce(e.reason, '') <> ALL(:derived::text[])
      ORDER BY e.account_id, e.seq) AS f;

-- name: give_flags
-- Why these accounts are settled after every write, as far as that comes with such lines.
SELECT json_build_object('customer_id', customer_id, 'flags', flags & :mask::int)::text AS fact
FROM accounts WHERE flags & :mask::int <> 0 ORDER BY account_id;

-- name: give_holds
-- Every hold as it stands.
SELECT row_to_json(f)::text AS fact
FROM (SELECT h.*, a.customer_id FROM holds h JOIN accounts a USING (account_id) ORDER BY h.held_at, h.hold_id) AS f;

-- name: give_corrections
-- Every correction that waited for a second person.
SELECT row_to_json(f)::text AS fact
FROM (SELECT c.*, a.customer_id FROM corrections c JOIN accounts a USING (account_id)
      ORDER BY c.requested_at, c.correction_id) AS f;

-- name: give_draws
-- What purchases drew from the budgets of campaigns.
SELECT row_to_json(f)::text AS fact
FROM (SELECT d.*, a.customer_id FROM campaign_draws d JOIN entries e USING (entry_id) JOIN accounts a USING (account_id)
      ORDER BY d.recorded_at, d.entry_id, d.campaign) AS f;

-- name: take_draws!
-- Draws, and the budgets with what is left of them: the purchases that drew are still to come.
WITH given AS (
         SELECT r.* FROM json_array_elements(:rows::json) AS j(value)
         CROSS JOIN LATERAL json_populate_record(NULL::campaign_draws, j.value) AS r),
     budgets AS (
         INSERT INTO campaign_budgets (campaign, drawn) SELECT campaign, sum(points) FROM given GROUP BY campaign
         ON CONFLICT (campaign) DO UPDATE SET drawn = campaign_budgets.drawn + EXCLUDED.drawn)
INSERT INTO campaign_draws SELECT * FROM given;

-- name: take_lines
-- The columns of lines, as they will be written but for their account's id, position and sum.
SELECT r.*, j.value ->> 'customer_id' AS customer_id
FROM json_array_elements(:rows::json) WITH ORDINALITY AS j(value, place)
CROSS JOIN LATERAL json_populate_record(NULL::entries, j.value) AS r
ORDER BY j.place;

-- name: take_flags!
-- Have these accounts settled after every write.
UPDATE accounts a SET flags = a.flags | r.flags
FROM json_to_recordset(:rows::json) AS r(customer_id text, flags int) WHERE a.customer_id = r.customer_id;

-- name: take_holds!
-- Holds, with their accounts as they are called here.
INSERT INTO holds
SELECT r.* FROM json_array_elements(:rows::json) AS j(value) JOIN accounts a ON a.customer_id = j.value ->> 'customer_id'
CROSS JOIN LATERAL jsonb_populate_record(
    NULL::holds, j.value::jsonb || jsonb_build_object('account_id', a.account_id)) AS r;

-- name: take_corrections!
-- Corrections, with their accounts as they are called here.
INSERT INTO corrections
SELECT r.* FROM json_array_elements(:rows::json) AS j(value) JOIN accounts a ON a.customer_id = j.value ->> 'customer_id'
CROSS JOIN LATERAL jsonb_populate_record(
    NULL::corrections, j.value::jsonb || jsonb_build_object('account_id', a.account_id)) AS r;
