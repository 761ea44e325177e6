-- name: is_known$
-- Whether anything was ever told of a customer.
SELECT EXISTS (SELECT FROM accounts WHERE customer_id = :customer::text);

-- name: cards
-- A customer's cards, those of ids that became theirs included, the newest first; one row of nulls without any, no
-- row for an unknown customer. What ended a card first is what counts.
WITH RECURSIVE person AS (
    SELECT account_of(:customer::text) AS account_id
    UNION
    SELECT m.account_id FROM merges m JOIN person p ON m.into_id = p.account_id)
SELECT a.customer_id, c.card_number, c.issued_at, e.occurred_at AS ended_at, e.change AS ending, e.replaced_by, e.reason
FROM accounts a
LEFT JOIN LATERAL (
    SELECT card_number, min(occurred_at) FILTER (WHERE change = 'issued') AS issued_at
    FROM card_changes JOIN person USING (account_id)
    GROUP BY card_number) c ON true
LEFT JOIN LATERAL (
    SELECT occurred_at, change, replaced_by, reason FROM card_changes
    WHERE card_number = c.card_number AND change <> 'issued'
    ORDER BY occurred_at, change_id LIMIT 1) e ON true
WHERE a.account_id = account_of(:customer::text)
ORDER BY c.issued_at DESC NULLS FIRST, c.card_number;

-- name: enrolments
-- What a customer was enrolled and updated with, the newest first; one row of nulls without any, no row for an unknown
-- customer.
SELECT e.* FROM accounts a LEFT JOIN enrolments e USING (account_id)
WHERE a.account_id = account_of(:customer::text)
ORDER BY e.occurred_at DESC, e.event_key;
