-- What purchases count for after refunds and corrections, and awards that belong to no purchase.

-- What points told of a purchase since it was credited: what it counts for in full, and what refunds took out of that
-- (reductions: a list of at, base, net_spend, purchases). Of several the one with the highest seq counts; it may be
-- known before the purchase itself. refunded_at and refund_id say which refund told it, where one did.
CREATE TABLE standings (
    lot_id      uuid        NOT NULL,
    seq         bigint      NOT NULL,
    account_id  bigint      NOT NULL REFERENCES accounts,
    occurred_at timestamptz NOT NULL,
    base        bigint      NOT NULL CHECK (base >= 0),
    net_spend   numeric     NOT NULL CHECK (net_spend >= 0),
    purchases   int         NOT NULL CHECK (purchases >= 0),
    reductions  json        NOT NULL,
    refunded_at timestamptz,
    refund_id   text,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (lot_id, seq)
);
CREATE INDEX standings_account ON standings (account_id, lot_id, seq DESC);
CREATE TRIGGER standings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON standings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What counts for some accounts now: what was credited, as it stands since. A function and no view, so that both sides
-- of the join are read by account.
CREATE FUNCTION counting(accounts bigint[])
RETURNS TABLE (account_id bigint, entry_id uuid, occurred_at timestamptz, base bigint, net_spend numeric,
               purchases int, reductions json)
LANGUAGE sql STABLE AS $$
    SELECT coalesce(q.account_id, s.account_id), coalesce(q.entry_id, s.lot_id),
           coalesce(s.occurred_at, q.occurred_at), coalesce(s.base, q.base), coalesce(s.net_spend, q.net_spend),
           coalesce(s.purchases, q.purchases), s.reductions
    FROM (SELECT * FROM qualifying WHERE account_id = ANY(accounts)) q
    FULL JOIN (SELECT DISTINCT ON (lot_id) * FROM standings WHERE account_id = ANY(accounts)
               ORDER BY lot_id, seq DESC) s
        ON s.account_id = q.account_id AND s.lot_id = q.entry_id
$$;

-- Awards for what is no purchase have no shop and no order.
ALTER TABLE qualifying ALTER shop DROP NOT NULL, ALTER order_id DROP NOT NULL;
