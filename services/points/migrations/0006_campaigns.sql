-- Campaigns: what their budgets have given away. All else of them stands with the entries.

-- How much of a campaign's overall budget has been given, in points. Locked while a batch draws from it.
CREATE TABLE campaign_budgets (
    campaign text   PRIMARY KEY,
    drawn    bigint NOT NULL DEFAULT 0 CHECK (drawn >= 0)
) WITH (fillfactor = 50);

-- What each purchase drew, a fact decided once: it is never given back and never taken away by another purchase.
CREATE TABLE campaign_draws (
    campaign    text        NOT NULL REFERENCES campaign_budgets,
    entry_id    uuid        NOT NULL,
    lot_id      uuid        NOT NULL,
    points      bigint      NOT NULL CHECK (points > 0),
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (entry_id, campaign)
);
CREATE INDEX campaign_draws_lot ON campaign_draws (lot_id);
CREATE TRIGGER campaign_draws_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON campaign_draws
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Purchases whose campaigns a late event may change, by customer.
CREATE INDEX entries_campaign ON entries (account_id, occurred_at) WHERE kind = 'earned' AND reason = 'campaign';
