-- Whoever edits the ledger behind everybody's back is found out: batches of entries are chained by their hashes.

-- Which batch an entry was written with; null: by a version that had no chain.
ALTER TABLE entries ADD batch uuid;
CREATE INDEX entries_unchained ON entries (recorded_at) WHERE batch IS NULL;

-- One link a batch. A chain belongs to a database session (its process number), which has one transaction at a time:
-- no writer ever waits for another, and a link that is rolled back leaves no gap. A later session with the same number
-- goes on where the earlier one ended. digests are the batch's entries, 16 bytes each (domain/chaining.py).
CREATE TABLE chain (
    chain       bigint      NOT NULL,
    number      bigint      NOT NULL,
    batch       uuid        NOT NULL,
    digests     bytea       NOT NULL CHECK (octet_length(digests) % 16 = 0),
    previous    bytea,
    hash        bytea       NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (chain, number)
);
-- Hashes do not compress.
ALTER TABLE chain ALTER digests SET STORAGE EXTERNAL;

CREATE FUNCTION link_hash(chain bigint, number bigint, previous bytea, batch uuid, digests bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN sha256(int8send(chain) || int8send(number) || coalesce(previous, '') || uuid_send(batch) || digests);

-- Whatever a writer says, a link is hung on the last one of its own session.
CREATE FUNCTION hang_on() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last record;
BEGIN
    NEW.chain := pg_backend_pid();
    SELECT c.number, c.hash INTO last FROM chain c WHERE c.chain = NEW.chain ORDER BY c.number DESC LIMIT 1;
    NEW.number := coalesce(last.number, 0) + 1;
    NEW.previous := last.hash;
    NEW.hash := link_hash(NEW.chain, NEW.number, NEW.previous, NEW.batch, NEW.digests);
    RETURN NEW;
END $$;
CREATE TRIGGER chain_hangs_on BEFORE INSERT ON chain FOR EACH ROW EXECUTE FUNCTION hang_on();
CREATE TRIGGER chain_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Once a day the last links of all chains are tied together: a JSON list of [chain, number, hash]. links is how many
-- there are in all, unchained how many entries are from before the chain.
CREATE TABLE checkpoints (
    number      bigint      PRIMARY KEY,
    heads       json        NOT NULL,
    links       bigint      NOT NULL,
    unchained   bigint      NOT NULL,
    previous    bytea,
    hash        bytea       NOT NULL,
    recorded_at timestamptz NOT NULL
);
CREATE FUNCTION checkpoint_hash(number bigint, heads json, unchained bigint, previous bytea, recorded_at timestamptz)
    RETURNS bytea LANGUAGE sql STABLE
    RETURN sha256(int8send(number) || coalesce(previous, '') || int8send(unchained)
                  || timestamptz_send(recorded_at) || convert_to(heads::text, 'UTF8'));
CREATE TRIGGER checkpoints_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
