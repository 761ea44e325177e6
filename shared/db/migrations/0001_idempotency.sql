-- What HTTP writes answered, kept with the effects in one transaction, so that a repetition gets the same answer.

-- id is a hash of client (the API key's id), operation (method and path) and key, which stand beside it for people.
-- fingerprint is a hash of the body's content; the answer is kept as its very bytes.
CREATE TABLE idempotency (
    id          uuid        PRIMARY KEY,
    client      text        NOT NULL,
    operation   text        NOT NULL,
    key         text        NOT NULL,
    fingerprint uuid        NOT NULL,
    status      smallint    NOT NULL,
    headers     json        NOT NULL,
    body        bytea       NOT NULL,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX idempotency_age ON idempotency (recorded_at);
