-- name: awards
-- points: what every purchase was worth in the end, award by award, with all that was taken back or corrected by rules.
-- Merged customers are who they live on as; a purchase whose credit was taken back is among those set aside.
SELECT e.lot_id AS key,
       (SELECT customer_id FROM accounts s WHERE s.account_id = account_of(a.customer_id)) AS customer_id, min(e.shop) AS shop, min(e.order_id) AS order_id,
       sum(e.points) FILTER (WHERE e.kind IN ('earned', 'tier_bonus', 'campaign')) AS granted,
       sum(e.points) FILTER (WHERE e.kind = 'clawed_back') AS taken_back, sum(e.base) AS base,
       min(e.net_spend) FILTER (WHERE e.kind = 'earned') AS net_spend,
       min(e.exact) FILTER (WHERE e.kind = 'earned') AS exact,
       min(e.occurred_at) FILTER (WHERE e.kind = 'earned') AS occurred_at, e.available_at,
       coalesce(m.expires_at, e.expires_at) AS expires_at
FROM entries e JOIN accounts a USING (account_id) LEFT JOIN moving_lots m USING (lot_id)
WHERE NOT EXISTS (SELECT FROM withdrawals w WHERE w.purchase_id = e.lot_id)
GROUP BY e.lot_id, a.customer_id, e.available_at, coalesce(m.expires_at, e.expires_at)
HAVING bool_or(e.kind = 'earned')
ORDER BY e.lot_id;

-- name: set_aside
-- points: purchases that earned nothing in the end, and why. What was known of a card at first depends on what came first.
SELECT u.purchase_id AS key, CASE WHEN u.card_number IS NULL THEN u.why ELSE 'card' END AS why, u.shop, u.order_id,
       u.customer_id, u.net_spend, u.occurred_at
FROM uncredited u LEFT JOIN entries e ON e.entry_id = u.purchase_id
WHERE e.entry_id IS NULL
UNION ALL
SELECT w.purchase_id, 'card', e.shop, e.order_id, NULL, e.net_spend, e.occurred_at
FROM withdrawals w JOIN entries e ON e.entry_id = w.purchase_id
ORDER BY key;

-- name: refunds
-- points: what was told of refunds and cancellations, and what they took.
SELECT r.refund_key AS key, r.kind, r.shop, r.order_id, o.state, o.points
FROM refunds r LEFT JOIN refund_outcomes o USING (refund_key) ORDER BY r.refund_key;
