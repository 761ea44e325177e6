-- The points ledger: accounts, the append-only entries, and the purchases that could not be credited.

-- A customer's account. Locked while a batch writes for it; seq numbers its entries, balance is their sum.
-- timeline is the customer's way through the tiers as the tiers service last told it (revision counts its tellings).
CREATE TABLE accounts (
    account_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id text        NOT NULL UNIQUE,
    seq         bigint      NOT NULL DEFAULT 0,
    balance     bigint      NOT NULL DEFAULT 0,
    revision    bigint      NOT NULL DEFAULT 0,
    timeline    json,
    recorded_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

-- One immutable signed line each. entry_id is a function of shop and order (or of what it corrects), so a second
-- award for the same order cannot be written. The dates are those of the lot the line belongs to, so a balance at
-- any instant is a plain sum. exact is the value in base points before rounding, as a fraction.
CREATE TABLE entries (
    entry_id      uuid        PRIMARY KEY,
    account_id    bigint      NOT NULL REFERENCES accounts,
    seq           bigint      NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('earned', 'tier_bonus')),
    points        bigint      NOT NULL,
    base          bigint      NOT NULL,
    bonus         bigint      NOT NULL,
    balance_after bigint      NOT NULL,
    lot_id        uuid        NOT NULL,
    occurred_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL,
    available_at  timestamptz NOT NULL,
    expires_at    timestamptz,
    shop          text        NOT NULL,
    order_id      text        NOT NULL,
    event_key     uuid        NOT NULL,
    event_id      text        NOT NULL,
    fingerprint   bigint      NOT NULL,
    net_spend     numeric     NOT NULL,
    exact         text        NOT NULL,
    tier          text,
    multiplier    text        NOT NULL,
    reason        text,
    explanation   json        NOT NULL,
    UNIQUE (account_id, seq),
    CHECK (points = base + bonus),
    CHECK (kind = 'earned' OR base = 0)
);
-- The same CloudEvent is the same event, whatever order it names.
CREATE UNIQUE INDEX entries_event ON entries (event_key) WHERE kind = 'earned';

-- Purchases that earn nothing because nobody or no real order stands behind them: recorded, counted, never lost.
CREATE TABLE uncredited (
    purchase_id  uuid        PRIMARY KEY,
    event_key    uuid        NOT NULL UNIQUE,
    why          text        NOT NULL CHECK (why IN ('guest', 'test')),
    customer_id  text,
    shop         text        NOT NULL,
    order_id     text        NOT NULL,
    event_id     text        NOT NULL,
    fingerprint  bigint      NOT NULL,
    net_spend    numeric     NOT NULL,
    exact        text        NOT NULL,
    occurred_at  timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL,
    explanation  json        NOT NULL
);

-- The ledger only grows: nobody edits or deletes a line, not even by mistake.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING HINT = 'write a correcting entry instead';
END $$;
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER uncredited_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON uncredited
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
