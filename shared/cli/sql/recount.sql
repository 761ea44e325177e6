-- name: awards
-- points: what every purchase was worth in the end, award by award, with all that was taken back or corrected by rules.
SELECT e.lot_id AS key, a.customer_id, min(e.shop) AS shop, min(e.order_id) AS order_id,
       sum(e.points) FILTER (WHERE e.kind IN ('earned', 'tier_bonus', 'campaign')) AS granted,
       sum(e.points) FILTER (WHERE e.kind = 'clawed_back') AS taken_back, sum(e.base) AS base,
       min(e.net_spend) FILTER (WHERE e.kind = 'earned') AS net_spend,
       min(e.exact) FILTER (WHERE e.kind = 'earned') AS exact,
       min(e.occurred_at) FILTER (WHERE e.kind = 'earned') AS occurred_at, e.available_at, e.expires_at
FROM entries e JOIN accounts a USING (account_id)
GROUP BY e.lot_id, a.customer_id, e.available_at, e.expires_at
HAVING bool_or(e.kind = 'earned')
ORDER BY e.lot_id;

-- name: set_aside
-- points: purchases that earned nothing, and why.
SELECT purchase_id AS key, why, shop, order_id, customer_id, net_spend, exact, occurred_at
FROM uncredited ORDER BY purchase_id;

-- name: refunds
-- points: what was told of refunds and cancellations, and what they took.
SELECT r.refund_key AS key, r.kind, r.shop, r.order_id, o.state, o.points
FROM refunds r LEFT JOIN refund_outcomes o USING (refund_key) ORDER BY r.refund_key;
