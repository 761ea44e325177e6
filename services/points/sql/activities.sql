-- name: known_activities
-- Which of these activities or events have been told, and what they said.
SELECT activity_id, event_key, fingerprint FROM activities
WHERE activity_id = ANY(:activities::uuid[]) OR event_key = ANY(:events::uuid[]);

-- name: add_activities!
-- Record activities; those who were brought by somebody are looked at again with every purchase of theirs.
WITH told AS (
    INSERT INTO activities (activity_id, event_key, account_id, activity, reference, referrer_id, event_id,
                            fingerprint, occurred_at, recorded_at, data, verdict)
    SELECT * FROM unnest(:activities::uuid[], :events::uuid[], :accounts::bigint[], :names::text[],
                         :references::text[], :referrers::bigint[], :event_ids::text[], :fingerprints::bigint[],
                         :occurred::timestamptz[], :recorded::timestamptz[], :data::json[], :verdicts::text[])
    RETURNING account_id, referrer_id, verdict)
UPDATE accounts a SET flags = a.flags | :flag::int
FROM told t WHERE a.account_id = t.account_id AND t.referrer_id IS NOT NULL AND t.verdict IS NULL;

-- name: activities_of
-- All that these customers, and those who live on as them, did of these kinds, with what their lots hold of it (null:
-- nothing was written yet). The person is the account that was asked for.
WITH RECURSIVE asked AS (
    SELECT DISTINCT person, activity FROM unnest(:accounts::bigint[], :names::text[]) AS u(person, activity)),
ids AS (
    SELECT person, person AS account_id FROM asked
    UNION
    SELECT i.person, m.account_id FROM merges m JOIN ids i ON m.into_id = i.account_id)
SELECT i.person, a.account_id, a.activity, a.activity_id, a.occurred_at, a.event_id, a.event_key, a.fingerprint,
       (SELECT sum(e.points)::bigint FROM entries e WHERE e.event_key = a.event_key AND e.kind = 'activity') AS points
FROM asked JOIN ids i USING (person)
JOIN activities a ON a.account_id = i.account_id AND a.activity = asked.activity
WHERE a.verdict IS NULL;

-- name: referrals_about
-- The accounts that a look at these customers' referrals concerns: whoever says to have brought them.
SELECT DISTINCT a.account_id, a.referrer_id
FROM activities a
WHERE a.referrer_id IS NOT NULL AND a.verdict IS NULL AND a.account_id = ANY(:accounts::bigint[]);

-- name: referrals_of
-- All referrals of these referrers and of the friends among them, whoever else says to have brought them, each with
-- the friend's first credited purchase that still stands (LIKE: see take_timelines).
WITH friends AS (
    SELECT DISTINCT account_id FROM activities
    WHERE referrer_id IS NOT NULL AND verdict IS NULL
      AND (referrer_id = ANY(:accounts::bigint[]) OR account_id = ANY(:accounts::bigint[])))
SELECT a.activity_id, a.activity, a.occurred_at, a.account_id, a.referrer_id, a.event_id, a.event_key, a.fingerprint,
       f.entry_id AS purchase_id, f.occurred_at AS purchased_at, b.customer_id AS friend, r.customer_id AS referrer
FROM activities a JOIN friends USING (account_id)
JOIN accounts b ON b.account_id = a.account_id
JOIN accounts r ON r.account_id = a.referrer_id
LEFT JOIN LATERAL (
    SELECT e.entry_id, e.occurred_at FROM entries e
    WHERE e.account_id = a.account_id AND e.kind LIKE 'earned'
      AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.purchase_id = e.entry_id)
    ORDER BY e.occurred_at, e.entry_id LIMIT 1) f ON true
WHERE a.referrer_id IS NOT NULL AND a.verdict IS NULL;

-- name: referral_lots
-- What the lots that these referrals led to hold now, and when they count.
SELECT e.event_key, e.lot_id, e.account_id, sum(e.points)::bigint AS points, min(e.occurred_at) AS occurred_at
FROM entries e
WHERE e.kind = 'activity' AND e.event_key = ANY(:events::uuid[])
GROUP BY e.event_key, e.lot_id, e.account_id;

-- name: customers_by_account
-- Whose accounts these are.
SELECT account_id, customer_id FROM accounts WHERE account_id = ANY(:accounts::bigint[]);
