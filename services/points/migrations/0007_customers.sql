-- Who the customers are and what they do besides buying. All of it is what was told, in full and for ever: nothing
-- here is edited, and what it amounts to is worked out from all of it together.

-- Once per activity and reference. The customer who brought this one only for referrals.
CREATE TABLE activities (
    activity_id uuid        PRIMARY KEY,
    event_key   uuid        NOT NULL UNIQUE,
    account_id  bigint      NOT NULL REFERENCES accounts,
    activity    text        NOT NULL,
    reference   text        NOT NULL,
    referrer_id bigint      REFERENCES accounts,
    event_id    text        NOT NULL,
    fingerprint bigint      NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    data        json        NOT NULL,
    verdict     text        CHECK (verdict IN ('unknown-activity', 'self-referral'))
);
CREATE INDEX activities_account ON activities (account_id, activity);
CREATE INDEX activities_referrer ON activities (referrer_id) WHERE referrer_id IS NOT NULL;
CREATE INDEX entries_activity ON entries (event_key) WHERE kind = 'activity';

-- Everything a customer was enrolled or updated with; 'merged' is what an id that became theirs brought along.
CREATE TABLE enrolments (
    event_key   uuid        PRIMARY KEY,
    account_id  bigint      NOT NULL REFERENCES accounts,
    kind        text        NOT NULL CHECK (kind IN ('enrolled', 'updated', 'merged')),
    event_id    text        NOT NULL,
    fingerprint bigint      NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    birthday    date,
    name        text,
    consents    json        NOT NULL
);
CREATE INDEX enrolments_account ON enrolments (account_id, occurred_at);

-- Purchases that customers called theirs when they signed up.
CREATE TABLE claims (
    purchase_id uuid        NOT NULL,
    account_id  bigint      NOT NULL REFERENCES accounts,
    claimed_at  timestamptz NOT NULL,
    event_key   uuid        NOT NULL,
    shop        text        NOT NULL,
    order_id    text        NOT NULL,
    PRIMARY KEY (purchase_id, event_key)
);

-- A card counts from its first 'issued' up to its first 'blocked' or 'replaced', all its life for one customer.
CREATE TABLE card_changes (
    change_id   uuid        NOT NULL,
    card_number text        NOT NULL,
    account_id  bigint      NOT NULL REFERENCES accounts,
    change      text        NOT NULL CHECK (change IN ('issued', 'blocked', 'replaced')),
    event_id    text        NOT NULL,
    fingerprint bigint      NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    replaced_by text,
    reason      text,
    actor       text,
    PRIMARY KEY (change_id, card_number)
);
CREATE INDEX card_changes_card ON card_changes (card_number);
CREATE INDEX card_changes_account ON card_changes (account_id);

-- Purchases that were credited by their card alone: looked at again when more is told of the card.
CREATE TABLE card_purchases (
    purchase_id uuid        PRIMARY KEY,
    card_number text        NOT NULL,
    occurred_at timestamptz NOT NULL
);
CREATE INDEX card_purchases_card ON card_purchases (card_number);

-- Purchases whose credit was taken back for good, because their card turned out to have been blocked before.
CREATE TABLE withdrawals (
    purchase_id uuid        PRIMARY KEY,
    account_id  bigint      NOT NULL REFERENCES accounts,
    card_number text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    event_key   uuid        NOT NULL,
    event_id    text        NOT NULL,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX withdrawals_account ON withdrawals (account_id);

-- An id that lives on as another: decided once, when it is told.
CREATE TABLE merges (
    account_id  bigint      PRIMARY KEY REFERENCES accounts,
    into_id     bigint      NOT NULL REFERENCES accounts,
    event_key   uuid        NOT NULL UNIQUE,
    event_id    text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    reason      text,
    actor       text,
    CHECK (account_id <> into_id)
);
CREATE INDEX merges_into ON merges (into_id);

-- The account behind a customer's id: where it was merged (256: FLAG_MERGED), that as which it lives on.
CREATE FUNCTION account_of(customer text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    found  bigint;
    marked int;
BEGIN
    SELECT account_id, flags INTO found, marked FROM accounts WHERE customer_id = customer;
    WHILE marked & 256 > 0 LOOP
        SELECT a.account_id, a.flags INTO found, marked
        FROM merges m JOIN accounts a ON a.account_id = m.into_id WHERE m.account_id = found;
    END LOOP;
    RETURN found;
END $$;

-- A purchase without credit keeps what the shop sent, so that it can be credited when its customer becomes known.
ALTER TABLE uncredited ADD card_number text, ADD data json, DROP CONSTRAINT uncredited_why_check;
ALTER TABLE uncredited ADD CONSTRAINT uncredited_why CHECK (
    why IN ('guest', 'test', 'not_enrolled', 'card_unknown', 'card_not_yet', 'card_blocked'));
CREATE INDEX uncredited_card ON uncredited (card_number) WHERE card_number IS NOT NULL;
CREATE INDEX uncredited_customer ON uncredited (customer_id) WHERE why = 'not_enrolled';

-- What is taken over from a merged account counts for the tiers as it did before: that is its base.
ALTER TABLE entries DROP CONSTRAINT entries_kind, DROP CONSTRAINT entries_base;
ALTER TABLE entries ADD CONSTRAINT entries_base CHECK (
    kind IN ('earned', 'campaign', 'activity', 'clawed_back', 'transferred') OR base = 0);
ALTER TABLE entries ADD CONSTRAINT entries_kind CHECK (kind IN (
    'earned', 'tier_bonus', 'campaign', 'activity', 'clawed_back', 'covered', 'written_off', 'unlocked', 'expired',
    'captured', 'restored', 'adjusted', 'reversed', 'transferred', 'withdrawn'));

CREATE TRIGGER activities_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON activities
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER enrolments_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON enrolments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER claims_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON claims
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER card_changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON card_changes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER withdrawals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON withdrawals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER merges_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON merges
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
