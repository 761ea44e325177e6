-- Ids that are one person: as which another each lives on, and one way for all of them.

-- As points decided and told it, once an id and for ever: account_id lives on as into_id since occurred_at. What it lives
-- on as may have been merged itself.
CREATE TABLE merges (
    account_id  bigint      PRIMARY KEY REFERENCES accounts,
    into_id     bigint      NOT NULL REFERENCES accounts,
    occurred_at timestamptz NOT NULL,
    event_key   uuid        NOT NULL,
    recorded_at timestamptz NOT NULL,
    CHECK (account_id <> into_id)
);
CREATE TRIGGER merges_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON merges
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- person_id: the account in which it all ends, for every account of a person with more than one, that one included; null
-- for everybody else, who pay nothing for it. promotions: the upgrades for which there is something to be given to a
-- survivor (null: those of the timeline).
ALTER TABLE accounts ADD person_id bigint REFERENCES accounts, ADD promotions json;
CREATE INDEX accounts_person ON accounts (person_id) WHERE person_id IS NOT NULL;

-- The same as before, but that a lot's parts belong together whoever they were told of: what was bought under an id that
-- had been merged counts as that id's, and its refunds are told of the survivor. Only accounts of whole persons are asked
-- for together.
CREATE OR REPLACE FUNCTION counting(accounts bigint[])
RETURNS TABLE (account_id bigint, entry_id uuid, occurred_at timestamptz, base bigint, net_spend numeric,
               purchases int, reductions json)
LANGUAGE sql STABLE AS $$
    SELECT coalesce(q.account_id, s.account_id), coalesce(q.entry_id, s.lot_id),
           coalesce(s.occurred_at, q.occurred_at), coalesce(s.base, q.base), coalesce(s.net_spend, q.net_spend),
           coalesce(s.purchases, q.purchases), s.reductions
    FROM (SELECT * FROM qualifying WHERE account_id = ANY(accounts)) q
    FULL JOIN (SELECT DISTINCT ON (lot_id) * FROM standings WHERE account_id = ANY(accounts)
               ORDER BY lot_id, seq DESC) s
        ON s.lot_id = q.entry_id
$$;

-- All accounts of a person, given one of them with its person_id.
CREATE FUNCTION accounts_of(account bigint, person bigint) RETURNS bigint[] LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN person IS NULL THEN ARRAY[account]
                ELSE ARRAY(SELECT account_id FROM accounts WHERE person_id = person) END
$$;
