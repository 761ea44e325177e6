-- name: add_accounts!
-- Open an account for each customer not known yet; in one order, so that two writers cannot block each other.
INSERT INTO accounts (customer_id, recorded_at)
SELECT c.customer_id, :now::timestamptz
FROM (SELECT DISTINCT customer_id FROM unnest(:customer_ids::text[]) AS u (customer_id)) AS c
WHERE NOT EXISTS (SELECT FROM accounts AS a WHERE a.customer_id = c.customer_id)
ORDER BY c.customer_id
ON CONFLICT (customer_id) DO NOTHING;

-- name: lock_accounts
-- Accounts of the batch, held until commit, with what was decided for them and the vouchers that came of it: one row
-- a definition, or one without voucher, or one with nothing. What hangs on an account is seen as it was when the
-- statement began, before any wait for its lock; ``changed`` says that somebody wrote the account in that wait. All
-- customers who are known from now on get their account, also those who are not asked for. OFFSET 0: account by account
-- and by index, also where the planner does not know yet how many claims there are; it would else read all of them.
WITH made AS (
    INSERT INTO accounts (customer_id, recorded_at)
    SELECT c.customer_id, :now::timestamptz
    FROM (SELECT DISTINCT customer_id FROM unnest(:known::text[]) AS u (customer_id)) AS c
    WHERE NOT EXISTS (SELECT FROM accounts AS a WHERE a.customer_id = c.customer_id)
    ORDER BY c.customer_id
    ON CONFLICT (customer_id) DO NOTHING
    RETURNING account_id, customer_id, revision, timeline, promotions),
locked AS MATERIALIZED (
    SELECT account_id, customer_id, revision, timeline, promotions, xmin AS written
    FROM accounts
    WHERE customer_id = ANY(:customer_ids::text[])
    ORDER BY customer_id
    FOR NO KEY UPDATE)
SELECT a.account_id, a.customer_id, a.revision, a.timeline, a.promotions,
       a.written <> (SELECT xmin FROM accounts AS seen WHERE seen.account_id = a.account_id) AS changed,
       c.cause_type, c.cause_id, c.claim, c.program_version,
       v.voucher_id, v.definition, v.terms, v.state, v.issued_at, v.expires_at
FROM locked AS a
LEFT JOIN LATERAL (
    SELECT * FROM claims WHERE claims.account_id = a.account_id OFFSET 0) AS c ON true
LEFT JOIN LATERAL (
    SELECT * FROM vouchers AS w
    WHERE w.account_id = c.account_id AND w.cause_type = c.cause_type AND w.cause_id = c.cause_id AND w.claim = c.claim
    OFFSET 0) AS v ON true
UNION ALL
SELECT account_id, customer_id, revision, timeline, promotions, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL
FROM made WHERE customer_id = ANY(:customer_ids::text[]);

-- name: claims_and_vouchers
-- What was decided for these accounts, with the vouchers that came of it: one row a definition, or one without voucher.
SELECT c.account_id, c.cause_type, c.cause_id, c.claim, c.program_version,
       v.voucher_id, v.definition, v.terms, v.state, v.issued_at, v.expires_at
FROM claims AS c
LEFT JOIN vouchers AS v USING (account_id, cause_type, cause_id, claim)
WHERE c.account_id = ANY(:account_ids::bigint[]);

-- name: told_accounts
-- All accounts of which tiers has told something.
SELECT account_id, customer_id, coalesce(promotions, timeline) AS calls FROM accounts WHERE revision > 0 ORDER BY account_id;

-- name: lock_merging!
-- Merges come one at a time: they are rare, and each may move everybody whom the last one moved.
SELECT pg_advisory_xact_lock(hashtext('merges'));

-- name: merging
-- The accounts of these customers, held until commit: as which others they live on, and in which account they end.
SELECT a.account_id, a.customer_id, m.into_id, coalesce(a.person_id, a.account_id) AS survivor
FROM accounts AS a LEFT JOIN merges AS m USING (account_id)
WHERE a.customer_id = ANY(:customer_ids::text[])
ORDER BY a.customer_id
FOR NO KEY UPDATE OF a;

-- name: add_merge!
-- An account lives on as another, and so does everybody who lives on as it: all end in that survivor's.
WITH told AS (
    INSERT INTO merges (account_id, into_id, event_key, recorded_at)
    VALUES (:account::bigint, :into::bigint, :event::uuid, :now::timestamptz))
UPDATE accounts SET person_id = :survivor::bigint
WHERE account_id IN (:account::bigint, :survivor::bigint) OR person_id = :account::bigint;

-- name: fingerprints
-- Every voucher with the fingerprint of its code.
SELECT voucher_id, key_version, code_hash FROM vouchers;

-- name: follow!
-- Everything a batch of tier changes leaves, in one statement: the newest ways through the levels, what new causes
-- give (as JSON, since unnest would flatten an array of arrays), new vouchers, and the steps of all of them.
WITH told AS (
    UPDATE accounts AS a SET revision = n.revision, timeline = n.timeline, promotions = n.promotions
    FROM unnest(:told_ids::bigint[], :told_revisions::bigint[], :told_timelines::jsonb[], :told_promotions::jsonb[])
        AS n (account_id, revision, timeline, promotions)
    WHERE a.account_id = n.account_id),
claimed AS (
    INSERT INTO claims (account_id, cause_type, cause_id, claim, definitions, program_version, recorded_at)
    SELECT n.account_id, n.cause_type, n.cause_id, n.claim,
           ARRAY(SELECT jsonb_array_elements_text(n.definitions)), n.program_version, :now::timestamptz
    FROM unnest(:claim_ids::bigint[], :claim_types::text[], :claim_causes::text[], :claim_numbers::int[],
                :claim_versions::text[], :claim_definitions::jsonb[])
        AS n (account_id, cause_type, cause_id, claim, program_version, definitions)),
issued AS (
    INSERT INTO vouchers (voucher_id, account_id, cause_type, cause_id, definition, terms, state, issued_at,
                          expires_at, code_hash, claim, key_version, recorded_at)
    SELECT n.*, :key_version::int, :now::timestamptz
    FROM unnest(:voucher_ids::uuid[], :account_ids::bigint[], :cause_types::text[], :cause_ids::text[],
                :definitions::text[], :terms::jsonb[], :states::text[], :issued::timestamptz[],
                :expires::timestamptz[], :code_hashes::bytea[], :voucher_claims::int[]) AS n)
INSERT INTO voucher_events (voucher_id, step, revision, issued_at, expires_at, old_issued_at, old_expires_at,
                            event_id, recorded_at)
SELECT n.*, :now::timestamptz
FROM unnest(:step_ids::uuid[], :steps::text[], :step_revisions::bigint[], :new_issued::timestamptz[],
            :new_expires::timestamptz[], :old_issued::timestamptz[], :old_expires::timestamptz[],
            :event_ids::text[]) AS n;

-- name: move_vouchers!
-- New state and dates of known vouchers, and the terms of the claim that they have them by: those of a used one never
-- change, and of an unused one only with its cause.
UPDATE vouchers AS v
SET state = n.state, issued_at = n.issued_at, expires_at = n.expires_at, terms = n.terms, claim = n.claim
FROM unnest(:voucher_ids::uuid[], :states::text[], :issued::timestamptz[], :expires::timestamptz[],
            :terms::jsonb[], :claims::int[])
    AS n (voucher_id, state, issued_at, expires_at, terms, claim)
WHERE v.voucher_id = n.voucher_id;

-- name: add_voucher_events!
-- Steps of vouchers, into the append-only ledger.
INSERT INTO voucher_events (voucher_id, step, revision, issued_at, expires_at, old_issued_at, old_expires_at, event_id,
                            recorded_at)
SELECT n.*, :now::timestamptz
FROM unnest(:voucher_ids::uuid[], :steps::text[], :revisions::bigint[], :issued::timestamptz[],
            :expires::timestamptz[], :old_issued::timestamptz[], :old_expires::timestamptz[], :event_ids::text[]) AS n;

-- name: take_expired
-- Vouchers whose last day has passed and for which that has not been told, locked, the longest waiting first.
WITH due AS (
    SELECT voucher_id
    FROM vouchers
    WHERE state = 'issued' AND expiry_told IS DISTINCT FROM expires_at AND expires_at <= :now::timestamptz
    ORDER BY expires_at
    LIMIT :count
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE vouchers AS v SET expiry_told = v.expires_at
FROM due, accounts AS a
WHERE v.voucher_id = due.voucher_id AND a.account_id = v.account_id
RETURNING a.customer_id, a.revision, v.voucher_id, v.cause_type, v.cause_id, v.claim, v.definition, v.terms, v.state,
          v.issued_at, v.expires_at;
