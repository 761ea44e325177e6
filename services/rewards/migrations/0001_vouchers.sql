-- Customers, what their promotions entitle them to, the vouchers, and the ledger of what became of them.

-- A customer as far as this service needs one. timeline is the way through the levels as tiers last told it, with its
-- revision; revision 0 is a customer known from the points alone.
CREATE TABLE accounts (
    account_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id text        NOT NULL UNIQUE,
    revision    bigint      NOT NULL DEFAULT 0 CHECK (revision >= 0),
    timeline    jsonb       NOT NULL DEFAULT '[]',
    recorded_at timestamptz NOT NULL
) WITH (fillfactor = 70);

-- What a cause (gold reached for the first time: gold#1) gives, decided once under the program then in force, also when
-- it gives nothing. A cause keeps its claim when a late event makes it vanish: it may come back.
CREATE TABLE claims (
    account_id      bigint      NOT NULL REFERENCES accounts,
    cause_type      text        NOT NULL,
    cause_id        text        NOT NULL,
    definitions     text[]      NOT NULL,
    program_version text        NOT NULL,
    recorded_at     timestamptz NOT NULL,
    PRIMARY KEY (account_id, cause_type, cause_id)
);

-- A voucher as it stands. terms is its own copy of the definition, with the zone its days are counted in.
-- No code is stored: code_hash finds one, the secret and voucher_id make it (docs/decisions/0020-voucher-codes.md).
-- expiry_told is the expires_at whose passing has been written down and published.
CREATE TABLE vouchers (
    voucher_id  uuid        PRIMARY KEY,
    account_id  bigint      NOT NULL,
    cause_type  text        NOT NULL,
    cause_id    text        NOT NULL,
    definition  text        NOT NULL,
    terms       jsonb       NOT NULL,
    state       text        NOT NULL
        CHECK (state IN ('issued', 'revoked', 'held', 'redeemed', 'partially_redeemed')),
    issued_at   timestamptz NOT NULL,
    expires_at  timestamptz CHECK (expires_at > issued_at),
    expiry_told timestamptz,
    code_hash   bytea       NOT NULL UNIQUE CHECK (octet_length(code_hash) = 32),
    key_version int         NOT NULL CHECK (key_version > 0),
    recorded_at timestamptz NOT NULL,
    UNIQUE (account_id, cause_type, cause_id, definition),
    FOREIGN KEY (account_id, cause_type, cause_id) REFERENCES claims
);
CREATE INDEX vouchers_newest ON vouchers (account_id, issued_at DESC, voucher_id DESC);
CREATE INDEX vouchers_to_expire ON vouchers (expires_at)
    WHERE state = 'issued' AND expiry_told IS DISTINCT FROM expires_at;

-- The append-only ledger: every step of every voucher, with the event that caused it.
CREATE TABLE voucher_events (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    voucher_id     uuid        NOT NULL REFERENCES vouchers,
    step           text        NOT NULL
        CHECK (step IN ('issued', 'redated', 'revoked', 'reinstated', 'expired')),
    revision       bigint      NOT NULL,
    issued_at      timestamptz NOT NULL,
    expires_at     timestamptz,
    old_issued_at  timestamptz,
    old_expires_at timestamptz,
    event_id       text,
    recorded_at    timestamptz NOT NULL
);
CREATE INDEX voucher_events_of ON voucher_events (voucher_id, id);

-- What a voucher is at an instant: expiry is a function of time, never of a job having run.
CREATE FUNCTION voucher_state(state text, expires_at timestamptz, at timestamptz) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN state = 'issued' AND expires_at <= at THEN 'expired' ELSE state END;

-- The ledger only grows: corrections are new rows.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON voucher_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON claims
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
