-- Refunds and cancellations: what shops told, and what became of it.

-- One immutable row each. refund_key is a function of shop and refund id (a cancellation's: of shop and order), so none
-- is taken twice. lines is a JSON list of [line_id, sku, quantity]; empty with no amount: the whole purchase.
CREATE TABLE refunds (
    refund_key  uuid        PRIMARY KEY,
    event_key   uuid        NOT NULL UNIQUE,
    kind        text        NOT NULL CHECK (kind IN ('refund', 'cancellation')),
    shop        text        NOT NULL,
    refund_id   text,
    order_id    text,
    purchase_id uuid,
    customer_id text,
    currency    text,
    lines       json        NOT NULL,
    amount      numeric,
    reason      text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    event_id    text        NOT NULL,
    fingerprint bigint      NOT NULL,
    CHECK ((kind = 'refund') = (refund_id IS NOT NULL)),
    CHECK ((purchase_id IS NULL) = (order_id IS NULL)),
    CHECK (kind = 'refund' OR order_id IS NOT NULL)
);
CREATE INDEX refunds_purchase ON refunds (purchase_id) WHERE purchase_id IS NOT NULL;
CREATE INDEX refunds_told ON refunds (recorded_at, refund_key);
CREATE TRIGGER refunds_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON refunds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How each stands now, decided anew whenever something is told that may matter: account_id is whose points it takes
-- (null as long as nobody knows), points what it took in sum, code why it stands as it does, where that needs a reason.
CREATE TABLE refund_outcomes (
    refund_key uuid        PRIMARY KEY REFERENCES refunds,
    account_id bigint      REFERENCES accounts,
    state      text        NOT NULL CHECK (state IN
        ('matched', 'partly', 'unmatched', 'parked', 'uncredited', 'refused')),
    code       text,
    points     bigint      NOT NULL DEFAULT 0 CHECK (points >= 0),
    decided_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX refund_outcomes_account ON refund_outcomes (account_id);
CREATE INDEX refund_outcomes_state ON refund_outcomes (state, refund_key) WHERE state <> 'matched';

-- Up to which of its entries an account's refunds have been decided; null: they are to be decided anew.
ALTER TABLE accounts ADD refunds_seq bigint;
