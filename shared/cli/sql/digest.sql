-- Fingerprints of the end state, one a part: equal for equal sets of events, whatever their order, repetition or
-- delay. So nothing here may depend on arrival: no account ids, no recorded_at, no revisions.

-- name: points_balances
-- What every customer has earned and lost in sum.
SELECT count(*) AS items, encode(sha256(convert_to(coalesce(string_agg(item, E'\n' ORDER BY item COLLATE "C"), ''),
                                                   'UTF8')), 'hex') AS sha256
FROM (SELECT jsonb_build_array(customer_id, balance)::text AS item FROM accounts WHERE seq > 0) AS items;

-- name: points_lots
-- Every award with its corrections: what it is worth now, and from when until when.
SELECT count(*) AS items, encode(sha256(convert_to(coalesce(string_agg(item, E'\n' ORDER BY item COLLATE "C"), ''),
                                                   'UTF8')), 'hex') AS sha256
FROM (SELECT jsonb_build_array(a.customer_id, e.shop, e.order_id, sum(e.points),
                               extract(epoch FROM e.available_at), extract(epoch FROM e.expires_at))::text AS item
      FROM entries e JOIN accounts a USING (account_id)
      GROUP BY a.customer_id, e.lot_id, e.shop, e.order_id, e.available_at, e.expires_at) AS items;

-- name: tiers_tiers
-- Every customer's way through the levels, up to the last purchase: what time alone decides afterwards (kept, fallen)
-- is written down when its job comes by, so it tells of the clock and not of the events.
SELECT count(*) AS items, encode(sha256(convert_to(coalesce(string_agg(item, E'\n' ORDER BY item COLLATE "C"), ''),
                                                   'UTF8')), 'hex') AS sha256
FROM (SELECT jsonb_build_array(a.customer_id, jsonb_agg(m.move ORDER BY m.number)
                               FILTER (WHERE (m.move ->> 'since')::timestamptz <= q.newest))::text AS item
      FROM accounts a
      JOIN (SELECT account_id, max(occurred_at) AS newest FROM qualifying GROUP BY account_id) q USING (account_id)
      LEFT JOIN LATERAL json_array_elements(a.timeline) WITH ORDINALITY AS m(move, number) ON true
      GROUP BY a.customer_id) AS items;

-- name: rewards_vouchers
-- Every voucher that has a cause. One whose cause never was is revoked, and depends on having been misled once. Its
-- state is the stored one: whether a voucher has expired is a matter of the clock, and its dates are here.
SELECT count(*) AS items, encode(sha256(convert_to(coalesce(string_agg(item, E'\n' ORDER BY item COLLATE "C"), ''),
                                                   'UTF8')), 'hex') AS sha256
FROM (SELECT jsonb_build_array(a.customer_id, v.voucher_id, v.cause_type, v.cause_id, v.definition, v.state,
                               extract(epoch FROM v.issued_at), extract(epoch FROM v.expires_at))::text AS item
      FROM vouchers v JOIN accounts a USING (account_id)
      WHERE v.state <> 'revoked') AS items;
