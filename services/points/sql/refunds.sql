-- name: known_refunds
-- Which of these refunds or events have been seen, with the fingerprint of what they said.
SELECT refund_key, event_key, fingerprint FROM refunds WHERE refund_key = ANY(:keys::uuid[])
UNION
SELECT refund_key, event_key, fingerprint FROM refunds WHERE event_key = ANY(:events::uuid[]);

-- name: purchases_of
-- Whose these purchases are: the customer's for credited ones, none but why for those set aside.
SELECT e.entry_id AS purchase_id, a.customer_id, NULL AS why
FROM entries e JOIN accounts a USING (account_id)
WHERE e.entry_id = ANY(:purchases::uuid[]) AND e.kind = 'earned'
UNION ALL
SELECT purchase_id, NULL, why FROM uncredited u
WHERE purchase_id = ANY(:purchases::uuid[])
  AND NOT EXISTS (SELECT FROM entries e WHERE e.entry_id = u.purchase_id);

-- name: hold_purchases!
-- Let nobody begin a batch of purchases until this transaction ends, and wait for those at work. Only for a refund of
-- nobody's, of an unknown purchase: no account's lock stands between it and the purchase. (Writers take a weaker lock
-- of this table before they look, so each of both sees the other's row.)
LOCK TABLE accounts IN SHARE ROW EXCLUSIVE MODE;

-- name: add_outcomes!
-- How new refunds stand before they are settled; their accounts are settled from now on. Parked ones are found by that;
-- one that names no order may change what all others take, so all of its account is settled anew.
WITH added AS (
    INSERT INTO refund_outcomes (refund_key, account_id, state, code, decided_at)
    SELECT * FROM unnest(:keys::uuid[], :accounts::bigint[], :states::text[], :codes::text[],
                         :decided::timestamptz[]))
UPDATE accounts a SET flags = a.flags | 1, refunds_seq = CASE WHEN n.parked THEN a.refunds_seq END
FROM (SELECT account_id, bool_and(state = 'parked') AS parked
      FROM unnest(:accounts::bigint[], :states::text[]) AS u(account_id, state) GROUP BY account_id) n
WHERE a.account_id = n.account_id;

-- name: meet_purchases
-- These purchases have come, of these accounts (null: set aside, and why): refunds that wait for them belong to their
-- customer, who is settled from now on; one that names another customer is refused (unless both are one person by
-- now). Returns the accounts concerned.
WITH come AS (
         SELECT r.refund_key, c.account_id, c.why,
                r.customer_id <> c.customer_id AND account_of(r.customer_id) <> account_of(c.customer_id) AS other
         FROM unnest(:purchases::uuid[], :accounts::bigint[], :customers::text[], :whys::text[])
             AS c(purchase_id, account_id, customer_id, why)
         JOIN refunds r USING (purchase_id)),
     met AS (
         UPDATE refund_outcomes o
         SET account_id = CASE WHEN c.other THEN o.account_id ELSE c.account_id END,
             state = CASE WHEN c.account_id IS NULL THEN 'uncredited' WHEN c.other THEN 'refused' ELSE 'parked' END,
             code = CASE WHEN c.account_id IS NULL THEN replace(c.why, '_', '-') || '-purchase'
                         WHEN c.other THEN 'other-customer' ELSE 'awaiting-purchase' END,
             decided_at = :now::timestamptz
         FROM come c
         WHERE c.refund_key = o.refund_key AND o.state IN ('parked', 'uncredited')
         RETURNING o.account_id, o.state)
UPDATE accounts SET flags = flags | 1, refunds_seq = NULL
WHERE account_id IN (SELECT account_id FROM met WHERE state = 'parked')
RETURNING account_id;

-- name: accounts_to_settle
-- Those of these accounts whose refunds may take something else than they do: new ones were told of a known purchase, or
-- something was granted since to a lot that they are about, or (where no order is named) may turn out to be about.
SELECT a.account_id FROM accounts a
WHERE a.account_id = ANY(:accounts::bigint[])
  AND (a.refunds_seq IS NULL
       OR EXISTS (
           SELECT FROM refund_outcomes o JOIN refunds r USING (refund_key) JOIN entries e ON e.entry_id = r.purchase_id
           WHERE o.account_id = a.account_id AND o.state = 'parked')
       OR EXISTS (
           SELECT FROM entries e
           JOIN refund_outcomes o ON o.account_id = a.account_id AND o.state NOT IN ('refused', 'uncredited')
           JOIN refunds r ON r.refund_key = o.refund_key
           WHERE e.account_id = a.account_id AND e.seq > a.refunds_seq AND e.kind IN ('earned', 'tier_bonus', 'campaign')
             AND (r.purchase_id = e.lot_id OR (r.purchase_id IS NULL AND r.occurred_at >= e.occurred_at))));

-- name: refunds_to_settle
-- The refunds of these accounts that may take something else than they do, each with what is known of its purchase: whose
-- it is, or why it was set aside. Refunds of one purchase do not mind those of another: only lots with a new refund or
-- grant count, and all of an account (lot_id null) where a refund names no order, or nothing was settled before. In the
-- order in which they happened.
WITH due AS (
         SELECT a.account_id, NULL::uuid AS lot_id FROM accounts a
         WHERE a.account_id = ANY(:accounts::bigint[])
           AND (a.refunds_seq IS NULL OR EXISTS (
               SELECT FROM refund_outcomes o JOIN refunds r USING (refund_key)
               WHERE o.account_id = a.account_id AND o.state NOT IN ('refused', 'uncredited') AND r.purchase_id IS NULL))
         UNION ALL
         SELECT o.account_id, r.purchase_id FROM refund_outcomes o JOIN refunds r USING (refund_key)
         WHERE o.account_id = ANY(:accounts::bigint[]) AND o.state = 'parked'
         UNION ALL
         SELECT e.account_id, e.lot_id FROM accounts a JOIN entries e USING (account_id)
         WHERE a.account_id = ANY(:accounts::bigint[]) AND e.seq > a.refunds_seq
           AND e.kind IN ('earned', 'tier_bonus', 'campaign'))
SELECT o.account_id, r.refund_key, r.kind, r.shop, r.refund_id, r.order_id, r.purchase_id, r.customer_id, r.currency,
       r.lines, r.amount, r.reason, r.occurred_at, r.event_id, o.state, o.code, o.points,
       e.account_id AS owner, u.why
FROM refund_outcomes o JOIN refunds r USING (refund_key)
LEFT JOIN entries e ON e.entry_id = r.purchase_id AND e.kind = 'earned'
LEFT JOIN uncredited u ON u.purchase_id = r.purchase_id AND e.entry_id IS NULL
WHERE o.account_id = ANY(:accounts::bigint[]) AND o.state NOT IN ('refused', 'uncredited')
  AND EXISTS (SELECT FROM due d WHERE d.account_id = o.account_id AND (d.lot_id IS NULL OR d.lot_id = r.purchase_id))
ORDER BY o.account_id, r.occurred_at, r.refund_key;

-- name: lots_to_settle
-- What was granted to and taken from the lots that these refunds are about; of accounts with a refund that names no
-- order (searching), of all purchases up to its instant (LIKE: see take_timelines).
SELECT e.account_id, e.lot_id, e.kind, e.points, e.base, e.occurred_at, e.available_at, e.expires_at, e.shop,
       e.order_id, e.net_spend, e.event_key,
       CASE WHEN e.kind IN ('earned', 'campaign', 'clawed_back') THEN e.explanation END AS explanation
FROM entries e
WHERE e.account_id = ANY(:accounts::bigint[]) AND e.kind IN ('earned', 'tier_bonus', 'campaign', 'clawed_back')
  AND (e.lot_id = ANY(:lots::uuid[])
       OR e.lot_id IN (
           SELECT a.entry_id
           FROM unnest(:searching::bigint[], :until::timestamptz[]) AS s(account_id, until)
           JOIN entries a ON a.account_id = s.account_id AND a.kind LIKE 'earned' AND a.occurred_at <= s.until))
ORDER BY e.account_id, e.seq;

-- name: decide_outcomes!
-- How refunds stand after they were settled, and up to where their accounts are.
WITH settled AS (
    UPDATE accounts a SET refunds_seq = u.seq
    FROM unnest(:accounts::bigint[], :seqs::bigint[]) AS u(account_id, seq)
    WHERE a.account_id = u.account_id)
UPDATE refund_outcomes o SET state = u.state, code = u.code, points = u.points, decided_at = :now::timestamptz
FROM unnest(:keys::uuid[], :states::text[], :codes::text[], :points::bigint[]) AS u(refund_key, state, code, points)
WHERE o.refund_key = u.refund_key;

-- name: reductions_of
-- What refunds take out of these lots as it stands: the newest line of each refund and lot says it in full.
SELECT DISTINCT ON (lot_id, event_key) lot_id, event_key, occurred_at, explanation
FROM entries
WHERE lot_id = ANY(:lots::uuid[]) AND account_id = ANY(:accounts::bigint[]) AND kind = 'clawed_back'
ORDER BY lot_id, event_key, seq DESC;

-- name: cancelled_orders
-- The cancelled purchases of these accounts: what was spent on them goes back.
SELECT o.account_id, r.refund_key, r.shop, r.order_id, r.occurred_at, r.event_id
FROM refund_outcomes o JOIN refunds r USING (refund_key)
WHERE o.account_id = ANY(:accounts::bigint[]) AND r.kind = 'cancellation' AND o.state NOT IN ('refused', 'uncredited');

-- name: states
-- How these refunds stand.
SELECT refund_key, state, code FROM refund_outcomes WHERE refund_key = ANY(:keys::uuid[]);

-- name: stragglers
-- Purchases that are known though refunds still wait for them: both came at the same moment, in different batches.
SELECT DISTINCT r.purchase_id
FROM refund_outcomes o JOIN refunds r USING (refund_key)
WHERE o.state = 'parked'
  AND (EXISTS (SELECT FROM entries e WHERE e.entry_id = r.purchase_id)
       OR EXISTS (SELECT FROM uncredited u WHERE u.purchase_id = r.purchase_id))
LIMIT :count::int;
