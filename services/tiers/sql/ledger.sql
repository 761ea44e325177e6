-- name: lock_accounts
-- Make the accounts that are missing and lock all of them, always in the same order.
WITH wanted AS (SELECT DISTINCT customer_id FROM unnest(:customers::text[]) AS u(customer_id)),
     made AS (
         INSERT INTO accounts (customer_id, rules, room, late_room, touched_at, recorded_at)
         SELECT customer_id, :rules::text, :room::numeric, :late_room::numeric, :now::timestamptz, :now::timestamptz
         FROM wanted w
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.customer_id = w.customer_id)
         ORDER BY customer_id
         ON CONFLICT DO NOTHING
         RETURNING account_id, customer_id, revision, rules, computed_until, due_at, room, late_room, timeline, person_id),
     locked AS (
         SELECT account_id, customer_id, revision, rules, computed_until, due_at, room, late_room, timeline, person_id
         FROM accounts WHERE customer_id = ANY(:customers::text[])
         ORDER BY account_id FOR UPDATE)
SELECT * FROM made UNION ALL SELECT * FROM locked;

-- name: lock_due_accounts
-- A few accounts for which time alone decides something now, or that were walked by other rules than these. Not
-- those that were touched since ``settled``: while old purchases are loaded, the next one may decide otherwise. And
-- not those that another transaction holds. All of them are found again.
SELECT account_id, customer_id, revision, rules, computed_until, due_at, room, late_room, timeline, person_id
FROM accounts
WHERE account_id = ANY (
    ARRAY(SELECT account_id FROM accounts
          WHERE due_at <= :now::timestamptz AND touched_at <= :settled::timestamptz
          ORDER BY due_at LIMIT :rows::int)
    || ARRAY(SELECT account_id FROM accounts
             WHERE rules < :rules::text OR rules > :rules::text LIMIT :rows::int))
ORDER BY account_id LIMIT :rows::int
FOR UPDATE SKIP LOCKED;

-- name: lock_persons
-- All accounts of these persons, each but the survivor with its merge.
SELECT a.account_id, a.customer_id, a.revision, a.rules, a.computed_until, a.due_at, a.room, a.late_room, a.timeline,
       a.person_id, a.promotions, m.into_id, m.occurred_at
FROM accounts a LEFT JOIN merges m USING (account_id)
WHERE a.person_id = ANY(:persons::bigint[])
ORDER BY a.account_id FOR UPDATE OF a;

-- name: all_persons
-- The same of everybody who has several, not locked.
SELECT a.account_id, a.customer_id, a.revision, a.rules, a.computed_until, a.due_at, a.room, a.late_room, a.timeline,
       a.person_id, a.promotions, m.into_id, m.occurred_at
FROM accounts a LEFT JOIN merges m USING (account_id)
WHERE a.person_id IS NOT NULL;

-- name: lock_merging!
-- Merges come one at a time: they are rare, and each may move everybody whom the last one moved.
SELECT pg_advisory_xact_lock(hashtext('merges'));

-- name: merged_into
-- As which others these accounts live on, those that do.
SELECT account_id, into_id FROM merges WHERE account_id = ANY(:accounts::bigint[]);

-- name: add_merge!
-- An account lives on as another, and so does everybody who lives on as it: all end in that survivor's.
WITH told AS (
    INSERT INTO merges (account_id, into_id, occurred_at, event_key, recorded_at)
    VALUES (:account::bigint, :into::bigint, :occurred::timestamptz, :event::uuid, :now::timestamptz))
UPDATE accounts SET person_id = :survivor::bigint
WHERE account_id IN (:account::bigint, :survivor::bigint) OR person_id = :account::bigint;

-- name: add_qualifying
-- Append what counts; an entry that is known counts no second time and is not among the ids returned.
INSERT INTO qualifying (entry_id, account_id, occurred_at, base, net_spend, purchases, shop, order_id, recorded_at)
SELECT * FROM unnest(:entries::uuid[], :accounts::bigint[], :occurred::timestamptz[], :bases::bigint[],
                     :net_spends::numeric[], :purchases::int[], :shops::text[], :orders::text[],
                     :recorded::timestamptz[])
ON CONFLICT (entry_id) DO NOTHING
RETURNING entry_id;

-- name: add_standings
-- Append what purchases count for since they were credited; what is known is not among the keys returned.
INSERT INTO standings (lot_id, seq, account_id, occurred_at, base, net_spend, purchases, reductions, refunded_at,
                       refund_id, recorded_at)
SELECT * FROM unnest(:lots::uuid[], :seqs::bigint[], :accounts::bigint[], :occurred::timestamptz[], :bases::bigint[],
                     :net_spends::numeric[], :purchases::int[], :reductions::json[], :refunded::timestamptz[],
                     :refunds::text[], :recorded::timestamptz[])
ON CONFLICT (lot_id, seq) DO NOTHING
RETURNING lot_id, seq;

-- name: entries_of
-- Everything that counts for these accounts, in the order of the world, with what refunds took out of it.
SELECT account_id, entry_id, occurred_at, base, net_spend, purchases, reductions::text
FROM counting(:accounts::bigint[])
ORDER BY account_id, occurred_at, entry_id;

-- name: advance!
-- Accounts that were walked on, or that provably need no walk: until when, and what may still be added.
UPDATE accounts a
SET rules = :rules::text, touched_at = :now::timestamptz,
    computed_until = u.computed_until, due_at = u.due_at, room = u.room, late_room = u.late_room
FROM unnest(:accounts::bigint[], :until::timestamptz[], :due::timestamptz[], :rooms::numeric[],
            :late_rooms::numeric[]) AS u(account_id, computed_until, due_at, room, late_room)
WHERE a.account_id = u.account_id;

-- name: walked!
-- Accounts that were walked: how far, what may still be added, and where the way changed (a revision is given) its
-- new revision, level, timeline and promotions, with what was told and what it replaced.
WITH told AS (
    INSERT INTO changes (account_id, revision, number, kind, tier, previous, multiplier, since, valid_until, reach,
                         cause, replaced, recorded_at)
    SELECT * FROM unnest(:told_accounts::bigint[], :told_revisions::bigint[], :numbers::int[], :kinds::text[],
                         :tiers::text[], :previous::text[], :multipliers::text[], :since::timestamptz[],
                         :valid::timestamptz[], :reaches::int[], :causes::uuid[], :replaced::json[],
                         :recorded::timestamptz[]))
UPDATE accounts a
SET rules = :rules::text, touched_at = :now::timestamptz,
    computed_until = u.computed_until, due_at = u.due_at, room = u.room, late_room = u.late_room,
    revision = coalesce(u.revision, a.revision),
    level    = CASE WHEN u.revision IS NULL THEN a.level ELSE u.level END,
    timeline = CASE WHEN u.revision IS NULL THEN a.timeline ELSE u.timeline END,
    promotions = CASE WHEN u.revision IS NULL THEN a.promotions ELSE u.promotions END
FROM unnest(:accounts::bigint[], :until::timestamptz[], :due::timestamptz[], :rooms::numeric[],
            :late_rooms::numeric[], :revisions::bigint[], :levels::text[], :timelines::json[], :promotions::json[])
    AS u(account_id, computed_until, due_at, room, late_room, revision, level, timeline, promotions)
WHERE a.account_id = u.account_id;
