-- name: qualifying_of
-- What counts for a customer up to an instant (null: all), whichever of the ids that are the same person it was bought
-- under: one row of nulls for a customer without any, no row for an unknown one.
SELECT q.entry_id, q.occurred_at, q.base, q.net_spend, q.purchases, q.reductions::text
FROM accounts a
LEFT JOIN LATERAL counting(accounts_of(a.account_id, a.person_id)) q
    ON :at::timestamptz IS NULL OR q.occurred_at <= :at::timestamptz
WHERE a.customer_id = :customer::text;

-- name: recorded_of
-- When each move of a customer, or of whom they live on as, was recorded, newest first where one went and came back.
SELECT c.kind, c.tier, c.since, c.revision, c.recorded_at
FROM accounts a JOIN changes c ON c.account_id = coalesce(a.person_id, a.account_id)
WHERE a.customer_id = :customer::text AND c.kind <> 'withdrawn'
ORDER BY c.revision DESC;

-- name: orders_of
-- The orders behind entries that caused a move.
SELECT entry_id, shop, order_id FROM qualifying WHERE entry_id = ANY(:entries::uuid[]);

-- name: refunds_of
-- The refunds behind falls: those that touched these purchases at these instants.
SELECT DISTINCT s.lot_id, s.refunded_at, s.refund_id
FROM unnest(:lots::uuid[], :instants::timestamptz[]) AS u(lot_id, refunded_at)
JOIN standings s USING (lot_id, refunded_at)
WHERE s.refund_id IS NOT NULL
ORDER BY s.lot_id, s.refunded_at, s.refund_id DESC;

-- name: changes_of
-- A page of what was told of a customer, or of whom they live on as, newest first, before a given line; one row of nulls
-- for a customer without any, no row for an unknown one.
SELECT c.revision, c.number, c.kind, c.tier, c.previous, c.multiplier, c.since, c.valid_until, c.reach, c.cause,
       c.replaced, c.recorded_at
FROM accounts a
LEFT JOIN LATERAL (
    SELECT * FROM changes WHERE account_id = coalesce(a.person_id, a.account_id)
      AND (revision, number) < (:revision::bigint, :number::int)
    ORDER BY revision DESC, number DESC LIMIT :rows::int) c ON true
WHERE a.customer_id = :customer::text
ORDER BY c.revision DESC, c.number DESC;
