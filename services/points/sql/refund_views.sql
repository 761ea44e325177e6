-- name: refunds
-- A page of refunds, the last told first, after a given one; of one state or customer where asked for, and only those
-- told before an instant.
SELECT r.refund_key, r.kind, r.shop, r.refund_id, r.order_id, r.reason, r.occurred_at, r.recorded_at,
       coalesce(a.customer_id, r.customer_id) AS customer_id, o.state, o.code, o.points
FROM refunds r JOIN refund_outcomes o USING (refund_key) LEFT JOIN accounts a USING (account_id)
WHERE (:state::text IS NULL OR o.state = :state::text)
  AND (:customer::text IS NULL OR coalesce(a.customer_id, r.customer_id) = :customer::text)
  AND (:before::timestamptz IS NULL OR r.recorded_at < :before::timestamptz)
  AND (:recorded::timestamptz IS NULL OR (r.recorded_at, r.refund_key) < (:recorded::timestamptz, :key::uuid))
ORDER BY r.recorded_at DESC, r.refund_key DESC LIMIT :rows::int;
