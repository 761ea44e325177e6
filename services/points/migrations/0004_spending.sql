-- Spending: points reserved by holds, then captured (entries of kind captured), released, or let go by time.

-- One row a hold, from its making to its end; lots and parts are what it reserves, in the order in which it is spent
-- and captured. It reserves in [held_at, ended_at): ended_at is expires_at until something ends it before. So whether
-- a hold was live at an instant is told by these two alone, whether or not a job has written its time-out (state).
-- captured and restored are sums: what was taken for good, and what of that was given back; per lot they follow from
-- parts, for capturing begins with the first lot and giving back with the last.
CREATE TABLE holds (
    hold_id       uuid        PRIMARY KEY,
    account_id    bigint      NOT NULL REFERENCES accounts,
    state         text        NOT NULL CHECK (state IN ('held', 'captured', 'released', 'expired', 'declined')),
    points        bigint      NOT NULL CHECK (points > 0),
    captured      bigint      NOT NULL DEFAULT 0,
    restored      bigint      NOT NULL DEFAULT 0,
    lots          uuid[]      NOT NULL,
    parts         bigint[]    NOT NULL,
    order_id      text,
    redemption_id text,
    held_at       timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    ended_at      timestamptz NOT NULL,
    CHECK (captured BETWEEN 0 AND points),
    CHECK (restored BETWEEN 0 AND captured),
    CHECK ((state = 'captured') = (captured > 0)),
    CHECK (held_at <= ended_at AND ended_at <= expires_at),
    CHECK (cardinality(lots) = cardinality(parts))
) WITH (fillfactor = 80);
-- A hold lasts at most 7 days, so those live at an instant begin in the week before it.
CREATE INDEX holds_account ON holds (account_id, held_at);
CREATE INDEX holds_due ON holds (expires_at) WHERE state = 'held';
CREATE TRIGGER holds_are_kept BEFORE DELETE OR TRUNCATE ON holds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
