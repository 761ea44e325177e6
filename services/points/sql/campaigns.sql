-- name: campaign_lots
-- Every purchase of these accounts whose campaigns may be decided anew, as it stands now, with what it has drawn from
-- budgets; in the order in which caps fill.
SELECT e.account_id, e.entry_id, e.occurred_at, e.available_at, e.expires_at, e.shop, e.order_id, e.net_spend,
       e.fingerprint, e.event_key, e.event_id, e.explanation,
       (e.points + coalesce(c.points, 0))::bigint AS total, (e.base + coalesce(c.base, 0))::bigint AS base,
       coalesce(c.entries, 0) AS corrections, d.campaigns, d.points AS drawn
FROM entries e
LEFT JOIN LATERAL (
    SELECT sum(k.points) AS points, sum(k.base) AS base, count(*) AS entries FROM entries k
    WHERE k.account_id = e.account_id AND k.lot_id = e.entry_id AND k.kind IN ('tier_bonus', 'campaign')) c ON true
LEFT JOIN LATERAL (
    SELECT array_agg(g.campaign) AS campaigns, array_agg(g.points) AS points
    FROM (SELECT campaign, sum(points)::bigint AS points FROM campaign_draws
          WHERE lot_id = e.entry_id GROUP BY campaign) g) d ON true
WHERE e.account_id = ANY(:account_ids::bigint[]) AND e.kind = 'earned' AND e.reason = 'campaign'
ORDER BY e.account_id, e.occurred_at, e.entry_id;

-- name: first_purchases
-- The first purchase of each of these accounts (LIKE: see take_timelines).
SELECT DISTINCT ON (account_id) account_id, entry_id, occurred_at
FROM entries
WHERE account_id = ANY(:account_ids::bigint[]) AND kind LIKE 'earned'
ORDER BY account_id, occurred_at, entry_id;

-- name: flag_capped!
-- These accounts have a purchase whose campaigns a late event may change.
UPDATE accounts SET flags = flags | 4 WHERE account_id = ANY(:account_ids::bigint[]);

-- name: make_budgets!
-- Campaigns whose budget nobody has drawn from yet.
INSERT INTO campaign_budgets (campaign) SELECT campaign FROM unnest(:campaigns::text[]) AS u(campaign) ORDER BY campaign
ON CONFLICT DO NOTHING;

-- name: lock_budgets
-- What these campaigns have given, locked until commit, always in the same order.
SELECT campaign, drawn FROM campaign_budgets WHERE campaign = ANY(:campaigns::text[]) ORDER BY campaign FOR UPDATE;

-- name: budgets
-- What these campaigns have given by now.
SELECT campaign, drawn FROM campaign_budgets WHERE campaign = ANY(:campaigns::text[]);

-- name: draws_of
-- What these purchases have drawn from budgets.
SELECT lot_id, campaign, sum(points)::bigint FROM campaign_draws WHERE lot_id = ANY(:lots::uuid[])
GROUP BY lot_id, campaign;

-- name: draw!
-- Take points out of locked budgets, each for an entry and the purchase it belongs to.
WITH taken AS (
    SELECT * FROM unnest(:campaigns::text[], :entries::uuid[], :lots::uuid[], :points::bigint[])
        AS u(campaign, entry_id, lot_id, points)),
less AS (
    UPDATE campaign_budgets b SET drawn = b.drawn + t.points
    FROM (SELECT campaign, sum(points) AS points FROM taken GROUP BY campaign) t
    WHERE b.campaign = t.campaign)
INSERT INTO campaign_draws (campaign, entry_id, lot_id, points, recorded_at)
SELECT campaign, entry_id, lot_id, points, :recorded::timestamptz FROM taken;

-- name: capped_accounts
-- The next accounts that have purchases whose campaigns may be decided anew, to be checked.
SELECT account_id, customer_id,
       CASE WHEN flags & 256 = 0 THEN timeline
            ELSE (SELECT s.timeline FROM accounts s WHERE s.account_id = account_of(a.customer_id)) END AS timeline
FROM accounts a
WHERE flags & 4 <> 0 AND account_id > :after::bigint ORDER BY account_id LIMIT :rows::int;

-- name: quoted_account
-- A customer's account as a quote needs it, that of the survivor for a merged one: read, not locked.
WITH RECURSIVE way (account_id, step) AS (
    SELECT account_id, 0 FROM accounts WHERE customer_id = :customer::text
    UNION ALL
    SELECT m.into_id, step + 1 FROM way JOIN merges m USING (account_id) WHERE step < 100)
SELECT a.account_id, a.customer_id, a.seq, a.balance, a.revision, a.timeline, a.flags
FROM way JOIN accounts a USING (account_id) ORDER BY way.step DESC LIMIT 1;
