-- Corrections by people: those above the program's limit wait here for a second person.

-- One row each; decided once. correction_id is a hash of the request's client and Idempotency-Key, and its entries' ids
-- are made from it, so nothing is booked twice however often it is sent or approved.
CREATE TABLE corrections (
    correction_id uuid        PRIMARY KEY,
    account_id    bigint      NOT NULL REFERENCES accounts,
    points        bigint      NOT NULL CHECK (points <> 0),
    reason_code   text        NOT NULL,
    reason        text        NOT NULL,
    expires_at    timestamptz,
    fingerprint   bigint      NOT NULL,
    state         text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'declined')),
    requested_by  text        NOT NULL,
    requested_at  timestamptz NOT NULL,
    decided_by    text,
    decided_at    timestamptz,
    note          text,
    CHECK ((state = 'pending') = (decided_at IS NULL)),
    CHECK ((decided_by IS NULL) = (decided_at IS NULL)),
    CHECK (decided_by <> requested_by)
);
CREATE INDEX corrections_listed ON corrections (state, requested_at, correction_id);
CREATE TRIGGER corrections_are_kept BEFORE DELETE OR TRUNCATE ON corrections
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
