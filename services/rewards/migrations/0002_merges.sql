-- Ids that are one person: vouchers stay with the id they were given to, and both ids answer all of them.

-- As points decided and told it, once an id and for ever: account_id lives on as into_id.
CREATE TABLE merges (
    account_id  bigint      PRIMARY KEY REFERENCES accounts,
    into_id     bigint      NOT NULL REFERENCES accounts,
    event_key   uuid        NOT NULL,
    recorded_at timestamptz NOT NULL,
    CHECK (account_id <> into_id)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON merges
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- person_id: the account in which it all ends, for every account of a person with more than one, that one included.
-- promotions: what tiers tells a survivor shall get something for, where that is not what the timeline shows.
ALTER TABLE accounts ADD person_id bigint REFERENCES accounts, ADD promotions jsonb;
CREATE INDEX accounts_person ON accounts (person_id) WHERE person_id IS NOT NULL;

-- All accounts of a person, given one of them with its person_id.
CREATE FUNCTION accounts_of(account bigint, person bigint) RETURNS bigint[] LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN person IS NULL THEN ARRAY[account]
                ELSE ARRAY(SELECT account_id FROM accounts WHERE person_id = person) END
$$;
