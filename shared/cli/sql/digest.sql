-- Fingerprints of the end state, one a part: equal for equal sets of events, whatever their order, repetition or
-- delay. So nothing here may depend on arrival: no account ids, no recorded_at, no revisions. Each gives one row an item,
-- whose customer it is and what it says; digest.py makes one fingerprint of all items, or one a customer.

-- name: points_balances
-- What every customer has earned and lost in sum; not what time alone decides, written when its job comes by.
SELECT a.customer_id, jsonb_build_array(a.customer_id, sum(e.points))::text AS item
FROM entries e JOIN accounts a USING (account_id)
WHERE e.kind NOT IN ('expired', 'unlocked')
GROUP BY a.customer_id
HAVING sum(e.points) <> 0;

-- name: points_lots
-- Every award with its corrections: what it is worth now, and from when until when. A purchase that was taken back, and
-- what else holds nothing (a merged customer's lots, say), is as if it had never been, for it may not have been.
SELECT a.customer_id,
       jsonb_build_array(a.customer_id, e.shop, e.order_id, sum(e.points),
                         extract(epoch FROM e.available_at),
                         extract(epoch FROM coalesce(m.expires_at, e.expires_at)))::text AS item
FROM entries e JOIN accounts a USING (account_id) LEFT JOIN moving_lots m USING (lot_id)
WHERE e.kind NOT IN ('expired', 'unlocked')
  AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.purchase_id = e.lot_id)
GROUP BY a.customer_id, e.lot_id, e.shop, e.order_id, e.available_at, coalesce(m.expires_at, e.expires_at)
HAVING sum(e.points) <> 0
    OR bool_or(e.kind = 'earned' AND NOT EXISTS (SELECT FROM merges m WHERE m.account_id = a.account_id));

-- name: points_refunds
-- Every refund and cancellation: how it stands, and what it took.
SELECT coalesce(a.customer_id, r.customer_id, '') AS customer_id,
       jsonb_build_array(r.shop, r.kind, coalesce(r.refund_id, r.order_id), o.state, o.code, o.points)::text AS item
FROM refunds r JOIN refund_outcomes o USING (refund_key) LEFT JOIN accounts a USING (account_id);

-- name: tiers_tiers
-- Every customer's way through the levels, up to the last purchase or refund: what time alone decides afterwards
-- (kept, fallen) is written down when its job comes by, so it tells of the clock and not of the events. What counts for
-- nothing (any more) is as if it had never been. Merged customers are who they live on as.
WITH standing AS (SELECT DISTINCT ON (lot_id) * FROM standings ORDER BY lot_id, seq DESC)
SELECT a.customer_id,
       jsonb_build_array(a.customer_id, jsonb_agg(m.move ORDER BY m.number)
                         FILTER (WHERE (m.move ->> 'since')::timestamptz <= q.newest))::text AS item
FROM accounts a
JOIN (SELECT coalesce(o.person_id, o.account_id) AS account_id, max(at) AS newest FROM (
          SELECT e.account_id, e.occurred_at AS at FROM qualifying e LEFT JOIN standing s ON s.lot_id = e.entry_id
          WHERE coalesce(s.base, e.base) > 0 OR coalesce(s.net_spend, e.net_spend) > 0
             OR coalesce(s.purchases, e.purchases) > 0
          UNION ALL
          SELECT s.account_id, r.at
          FROM standing s
          CROSS JOIN LATERAL json_to_recordset(s.reductions) AS r(at timestamptz)) t
      JOIN accounts o USING (account_id)
      GROUP BY coalesce(o.person_id, o.account_id)) q USING (account_id)
LEFT JOIN LATERAL json_array_elements(a.timeline) WITH ORDINALITY AS m(move, number) ON true
GROUP BY a.customer_id;

-- name: rewards_vouchers
-- Every voucher that has a cause. One whose cause never was is revoked, and depends on having been misled once. Its
-- state is the stored one: whether a voucher has expired is a matter of the clock, and its dates are here.
SELECT a.customer_id,
       jsonb_build_array(a.customer_id, v.voucher_id, v.cause_type, v.cause_id, v.definition, v.state,
                         extract(epoch FROM v.issued_at), extract(epoch FROM v.expires_at))::text AS item
FROM vouchers v JOIN accounts a USING (account_id)
WHERE v.state <> 'revoked';
