-- name: lock_keys!
-- Have to ourselves until commit what has no row to lock: a card, an order that nobody has told of yet.
SELECT pg_advisory_xact_lock(key) FROM (SELECT unnest(:keys::bigint[]) AS key ORDER BY 1) AS k;

-- name: survivors
-- As whom merged accounts live on.
SELECT m.account_id, a.customer_id FROM merges m JOIN accounts a ON a.account_id = m.into_id
WHERE m.account_id = ANY(:accounts::bigint[]);

-- name: known_customer_events
-- What these events said, those that have been told.
SELECT event_key, fingerprint FROM enrolments WHERE event_key = ANY(:events::uuid[])
UNION
SELECT change_id, fingerprint FROM card_changes WHERE change_id = ANY(:events::uuid[]);

-- name: add_enrolments!
-- Record what customers were enrolled or updated with.
INSERT INTO enrolments (event_key, account_id, kind, event_id, fingerprint, occurred_at, recorded_at, birthday, name,
                        consents)
SELECT * FROM unnest(:events::uuid[], :accounts::bigint[], :kinds::text[], :event_ids::text[], :fingerprints::bigint[],
                     :occurred::timestamptz[], :recorded::timestamptz[], :birthdays::date[], :names::text[],
                     :consents::json[]);

-- name: add_claims!
-- Record which purchases customers called theirs; the same one twice in one event is one claim.
INSERT INTO claims (purchase_id, account_id, claimed_at, event_key, shop, order_id)
SELECT * FROM unnest(:purchases::uuid[], :accounts::bigint[], :claimed::timestamptz[], :events::uuid[],
                     :shops::text[], :orders::text[])
ON CONFLICT DO NOTHING;

-- name: claims_of
-- Who calls these purchases theirs, and since when.
SELECT c.purchase_id, a.customer_id, c.claimed_at FROM claims c JOIN accounts a USING (account_id)
WHERE c.purchase_id = ANY(:purchases::uuid[])
ORDER BY c.claimed_at, c.event_key;

-- name: cards
-- Whose these cards are, and from when to when they count: what was told of an id before it was merged counts with what
-- was told of the one that it lives on as. The id is the one for which it was issued first.
SELECT c.card_number,
       (array_agg(a.customer_id ORDER BY c.change <> 'issued', c.occurred_at, c.change_id))[1] AS customer_id,
       min(c.occurred_at) FILTER (WHERE c.change = 'issued') AS issued_at,
       min(c.occurred_at) FILTER (WHERE c.change <> 'issued') AS ended_at
FROM card_changes c
JOIN accounts a USING (account_id)
JOIN accounts person ON person.account_id = account_of(a.customer_id)
WHERE c.card_number = ANY(:cards::text[])
GROUP BY c.card_number, person.account_id;

-- name: cards_of
-- The cards of these customers, and of those who live on as them.
WITH RECURSIVE person AS (
    SELECT unnest(:accounts::bigint[]) AS account_id
    UNION
    SELECT m.account_id FROM merges m JOIN person p ON m.into_id = p.account_id)
SELECT DISTINCT card_number FROM card_changes JOIN person USING (account_id);

-- name: add_card_changes!
-- Record what became of cards.
INSERT INTO card_changes (change_id, card_number, account_id, change, event_id, fingerprint, occurred_at, recorded_at,
                          replaced_by, reason, actor)
SELECT * FROM unnest(:changes::uuid[], :cards::text[], :accounts::bigint[], :kinds::text[], :event_ids::text[],
                     :fingerprints::bigint[], :occurred::timestamptz[], :recorded::timestamptz[],
                     :replacements::text[], :reasons::text[], :actors::text[]);

-- name: enrolled_since
-- Since when these customers take part, those who do.
SELECT account_id, min(occurred_at) AS enrolled_at FROM enrolments
WHERE account_id = ANY(:accounts::bigint[]) AND kind IN ('enrolled', 'merged')
GROUP BY account_id;

-- name: waiting
-- Purchases without credit that what was told of these customers, cards or orders may concern.
SELECT u.purchase_id, u.event_key, u.event_id, u.shop, u.fingerprint, u.data
FROM uncredited u
WHERE u.data IS NOT NULL
  AND NOT EXISTS (SELECT FROM entries e WHERE e.entry_id = u.purchase_id)
  AND u.purchase_id IN (
      SELECT purchase_id FROM uncredited WHERE purchase_id = ANY(:purchases::uuid[])
      UNION
      SELECT purchase_id FROM uncredited WHERE card_number = ANY(:cards::text[])
      UNION
      SELECT purchase_id FROM uncredited WHERE customer_id = ANY(:customers::text[]) AND why = 'not_enrolled')
ORDER BY u.occurred_at, u.purchase_id;

-- name: add_card_purchases!
-- Remember which purchases were credited by their card alone.
INSERT INTO card_purchases (purchase_id, card_number, occurred_at)
SELECT * FROM unnest(:purchases::uuid[], :cards::text[], :occurred::timestamptz[]);

-- name: withdraw
-- Take back for good what was credited by cards that were blocked before; their accounts are settled from now on.
WITH ended AS (
    SELECT card_number, min(occurred_at) AS ended_at FROM card_changes
    WHERE card_number = ANY(:cards::text[]) AND change <> 'issued' GROUP BY card_number),
bought AS (
    SELECT purchase_id, card_number, occurred_at FROM card_purchases p WHERE card_number = ANY(:cards::text[])
       AND NOT EXISTS (SELECT FROM claims c WHERE c.purchase_id = p.purchase_id)),
withdrawn AS (
    INSERT INTO withdrawals (purchase_id, account_id, card_number, occurred_at, event_key, event_id, recorded_at)
    SELECT b.purchase_id, e.account_id, b.card_number, b.occurred_at, c.change_id, c.event_id, :now::timestamptz
    FROM bought b
    JOIN ended n ON n.card_number = b.card_number AND b.occurred_at >= n.ended_at
    JOIN entries e ON e.entry_id = b.purchase_id
    JOIN LATERAL (
        SELECT change_id, event_id FROM card_changes
        WHERE card_number = b.card_number AND change <> 'issued' ORDER BY occurred_at, change_id LIMIT 1) c ON true
    ON CONFLICT DO NOTHING
    RETURNING account_id),
flagged AS (
    UPDATE accounts a SET flags = a.flags | :flag::int FROM withdrawn w WHERE a.account_id = w.account_id)
SELECT DISTINCT account_id FROM withdrawn;

-- name: withdrawn_lots
-- What is still in the lots of purchases whose credit was taken back, as far as it was granted or clawed back.
SELECT w.purchase_id, w.account_id, w.card_number, w.event_key, w.event_id, e.occurred_at, e.available_at,
       e.expires_at, e.shop, e.order_id, t.points
FROM withdrawals w
JOIN entries e ON e.entry_id = w.purchase_id
JOIN LATERAL (
    SELECT sum(l.points)::bigint AS points FROM entries l
    WHERE l.account_id = w.account_id AND l.lot_id = w.purchase_id
      AND l.kind IN ('earned', 'tier_bonus', 'campaign', 'clawed_back', 'withdrawn')) t ON true
WHERE w.account_id = ANY(:accounts::bigint[]) AND t.points <> 0
ORDER BY w.account_id, e.occurred_at, w.purchase_id;

-- name: add_merge!
-- An account lives on as another from now on.
WITH told AS (
    INSERT INTO merges (account_id, into_id, event_key, event_id, occurred_at, recorded_at, reason, actor)
    VALUES (:account::bigint, :into::bigint, :event::uuid, :event_id::text, :occurred::timestamptz,
            :recorded::timestamptz, :reason::text, :actor::text)),
enrolled AS (
    INSERT INTO enrolments (event_key, account_id, kind, event_id, fingerprint, occurred_at, recorded_at, consents)
    SELECT :event::uuid, :into::bigint, 'merged', :event_id::text, 0, min(occurred_at), :recorded::timestamptz, '{}'
    FROM enrolments WHERE account_id = :account::bigint AND kind IN ('enrolled', 'merged')
    HAVING count(*) > 0)
UPDATE accounts SET flags = flags | CASE WHEN account_id = :account::bigint THEN :merged::int ELSE :heir::int END
WHERE account_id IN (:account::bigint, :into::bigint);

-- name: who_lives_on_as
-- The accounts that live on as this one, also by way of others.
WITH RECURSIVE person AS (
    SELECT account_id FROM merges WHERE into_id = :account::bigint
    UNION
    SELECT m.account_id FROM merges m JOIN person p ON m.into_id = p.account_id)
SELECT account_id, customer_id FROM person JOIN accounts USING (account_id);

-- name: accept_refunds
-- Refunds that were refused because they named the other id of this person: they are taken now. Returns the accounts that
-- they concern, which are settled from now on.
WITH RECURSIVE person AS (
    SELECT :account::bigint AS account_id
    UNION
    SELECT m.account_id FROM merges m JOIN person p ON m.into_id = p.account_id),
again AS (
    UPDATE refund_outcomes o
    SET account_id = e.account_id, state = 'parked', code = 'awaiting-purchase', decided_at = :now::timestamptz
    FROM refunds r JOIN entries e ON e.entry_id = r.purchase_id
    WHERE r.refund_key = o.refund_key AND o.state = 'refused' AND o.code = 'other-customer'
      AND o.account_id IN (SELECT account_id FROM person) AND e.account_id IN (SELECT account_id FROM person)
    RETURNING e.account_id)
UPDATE accounts SET flags = flags | 1, refunds_seq = NULL WHERE account_id IN (SELECT account_id FROM again)
RETURNING account_id;

-- name: known_merges
-- Which of these events have told of a merge.
SELECT event_key FROM merges WHERE event_key = ANY(:events::uuid[]);

-- name: has_live_hold$
-- Whether something of this account is reserved at the moment.
SELECT EXISTS (SELECT FROM holds WHERE account_id = :account::bigint AND state = 'held'
                  AND expires_at > :now::timestamptz);

-- name: merged_into
-- As what these accounts live on, since when, and by what event they were told to.
SELECT m.account_id, m.into_id, a.customer_id AS into, m.occurred_at, m.event_key, m.event_id
FROM merges m JOIN accounts a ON a.account_id = m.into_id
WHERE m.account_id = ANY(:accounts::bigint[]);

-- name: left_behind
-- What is in the lots of these merged accounts, by the instant at which it moves on: that of what brought it there, but
-- not before the merge's. All that does not sum to 0, and every award or activity until its lot has been moved. What only
-- tells of time is left out, and so is who pays for whom from the merge on: there it is the other account that pays. base
-- and net_spend are what the award counts for, since counts_since (null: for nothing, because its credit was taken back).
WITH lines AS (
    SELECT e.*, greatest(e.occurred_at, m.occurred_at) AS moves_at
    FROM entries e JOIN merges m USING (account_id)
    WHERE e.account_id = ANY(:accounts::bigint[]) AND e.kind NOT IN ('expired', 'unlocked')
      AND (e.kind <> 'covered' OR e.occurred_at < m.occurred_at)),
lots AS (
    SELECT account_id, lot_id, min(available_at) AS available_at, min(expires_at) AS expires_at,
           min(active_from) AS active_from, min(moves_at) AS opens_at, min(shop) FILTER (WHERE entry_id = lot_id) AS shop,
           min(order_id) FILTER (WHERE entry_id = lot_id) AS order_id,
           CASE WHEN NOT bool_or(kind IN ('withdrawn', 'reversed')) THEN
               CASE WHEN bool_or(kind IN ('earned', 'activity')) THEN min(occurred_at) FILTER (WHERE entry_id = lot_id)
                    ELSE min((explanation #>> '{s,1}')::timestamptz) FILTER (WHERE reason = 'merged_in') END
           END AS counts_since,
           CASE WHEN bool_or(kind IN ('withdrawn', 'reversed')) THEN 0
                ELSE coalesce(sum(base) FILTER (WHERE kind IN ('earned', 'campaign', 'activity', 'transferred')), 0)
           END::bigint AS base,
           CASE WHEN bool_or(kind IN ('withdrawn', 'reversed')) THEN 0
                ELSE coalesce(max(net_spend) FILTER (WHERE entry_id = lot_id), 0) END AS net_spend,
           bool_or(kind IN ('earned', 'activity') OR base > 0 OR active_from < expires_at)
               AND NOT bool_or(coalesce(reason, '') = 'merged_out') AS stays
    FROM lines GROUP BY account_id, lot_id)
SELECT l.*, e.moves_at, e.points
FROM lots l JOIN (SELECT account_id, lot_id, moves_at, sum(points)::bigint AS points FROM lines
                  GROUP BY account_id, lot_id, moves_at) e USING (account_id, lot_id)
WHERE e.points <> 0 OR (l.stays AND e.moves_at = l.opens_at)
ORDER BY l.account_id, e.moves_at, l.lot_id;

-- name: known_lots
-- Which of these lots there are, and what of them counts for the tiers.
SELECT f.entry_id, (SELECT coalesce(sum(e.base), 0)::bigint FROM entries e
                    WHERE e.account_id = f.account_id AND e.lot_id = f.entry_id) AS base
FROM entries f WHERE f.entry_id = ANY(:lots::uuid[]);

-- name: positions
-- Where these accounts stand.
SELECT account_id, seq, balance, flags FROM accounts WHERE account_id = ANY(:accounts::bigint[]);
