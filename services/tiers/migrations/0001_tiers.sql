-- The tiers ledger: accounts, the append-only qualifying entries, and the append-only changes they led to.

-- A customer. timeline is the way through the levels as walked until computed_until by the rules of that version;
-- revision counts its changes. due_at is when time alone decides next. room and late_room bound what may be added
-- without a new walk (null: no bound), see domain/standing.py. touched_at is when the last batch wrote here.
CREATE TABLE accounts (
    account_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id    text        NOT NULL UNIQUE,
    revision       bigint      NOT NULL DEFAULT 0,
    level          text,
    timeline       json        NOT NULL DEFAULT '[]',
    rules          text        NOT NULL,
    computed_until timestamptz,
    due_at         timestamptz,
    room           numeric,
    late_room      numeric,
    touched_at     timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX accounts_due ON accounts (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX accounts_rules ON accounts (rules);

-- What counts, once per points entry: its base points, net spend and number of purchases. Which of them decides is
-- the program's choice, so all are kept.
CREATE TABLE qualifying (
    entry_id    uuid        PRIMARY KEY,
    account_id  bigint      NOT NULL REFERENCES accounts,
    occurred_at timestamptz NOT NULL,
    base        bigint      NOT NULL CHECK (base >= 0),
    net_spend   numeric     NOT NULL CHECK (net_spend >= 0),
    purchases   int         NOT NULL CHECK (purchases >= 0),
    shop        text        NOT NULL,
    order_id    text        NOT NULL,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX qualifying_account ON qualifying (account_id, occurred_at);

-- What was told, in order: every move that came into a timeline (with the one it took the place of, if a late event
-- moved it), and every move that was withdrawn without another in its place.
CREATE TABLE changes (
    account_id  bigint      NOT NULL REFERENCES accounts,
    revision    bigint      NOT NULL,
    number      int         NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('upgraded', 'retained', 'downgraded', 'withdrawn')),
    tier        text        NOT NULL,
    previous    text,
    multiplier  text        NOT NULL,
    since       timestamptz NOT NULL,
    valid_until timestamptz,
    reach       int         NOT NULL,
    cause       uuid,
    replaced    json,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, revision, number)
);

-- Neither is ever edited or deleted, not even by mistake.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING HINT = 'write a correcting entry instead';
END $$;
CREATE TRIGGER qualifying_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON qualifying
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON changes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
