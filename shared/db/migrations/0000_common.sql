-- What every service has beside its ledger. Applied before the service's own migrations.

-- The consumed position of each input partition, moved in the transaction that holds the batch's effects.
-- next_offset decides where a worker goes on; the counters say what became of every record before it.
CREATE TABLE offsets (
    topic       text   NOT NULL,
    partition   int    NOT NULL,
    next_offset bigint NOT NULL,
    applied     bigint NOT NULL DEFAULT 0,
    duplicates  bigint NOT NULL DEFAULT 0,
    refused     bigint NOT NULL DEFAULT 0,
    parked      bigint NOT NULL DEFAULT 0,
    poison      bigint NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- Events to be published: one row for what one transaction sends to one topic, deleted when acknowledged.
-- Arrays and not a row an event: the relay reads and deletes whole batches, and so the row costs nothing an event.
CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic       text        NOT NULL,
    keys        bytea[]     NOT NULL,
    payloads    bytea[]     NOT NULL,
    headers     text[],
    recorded_at timestamptz NOT NULL DEFAULT now()
);
-- Compressing what is deleted a moment later cost more than writing the rest of a batch's rows together.
ALTER TABLE outbox ALTER payloads SET STORAGE EXTERNAL;

-- Records that can never be applied, with their original bytes; headers is a JSON list of [name, base64].
CREATE TABLE dead_letters (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic       text        NOT NULL,
    partition   int         NOT NULL,
    "offset"    bigint      NOT NULL,
    key         bytea,
    value       bytea,
    headers     json        NOT NULL,
    field       text        NOT NULL,
    reason      text        NOT NULL,
    service     text        NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    state       text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'discarded')),
    replays     int         NOT NULL DEFAULT 0,
    note        text
);
CREATE INDEX dead_letters_open ON dead_letters (recorded_at) WHERE state = 'open';
