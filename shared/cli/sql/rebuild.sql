-- What a rebuild compares besides the digest: facts, which other histories of the same events would not share. One row an
-- item, as in digest.sql.

-- name: points_holds
-- Every hold, with its lots. Whether one has timed out is a matter of the clock, written down when the job comes by.
SELECT a.customer_id,
       jsonb_build_array(h.hold_id, CASE h.state WHEN 'expired' THEN 'held' ELSE h.state END, h.points, h.captured, h.restored,
                         h.lots, h.parts, h.order_id, h.redemption_id, extract(epoch FROM h.held_at),
                         extract(epoch FROM h.ended_at))::text AS item
FROM holds h JOIN accounts a USING (account_id);

-- name: points_corrections
-- Every correction that waited, or waits, for a second person.
SELECT a.customer_id,
       jsonb_build_array(c.correction_id, c.state, c.points, c.reason_code, c.reason, c.requested_by, c.decided_by,
                         extract(epoch FROM c.decided_at))::text AS item
FROM corrections c JOIN accounts a USING (account_id);

-- name: points_draws
-- What purchases have drawn from the budgets of campaigns.
SELECT a.customer_id, jsonb_build_array(d.campaign, d.lot_id, d.points)::text AS item
FROM campaign_draws d JOIN entries e ON e.entry_id = d.lot_id JOIN accounts a USING (account_id);
