-- The ledger takes more than purchases: refunds, spending, corrections, what time does, and activities.

-- Why an account is settled whenever something is written to it (FLAG_* in ledger/entries.py); mostly 0.
ALTER TABLE accounts ADD flags int NOT NULL DEFAULT 0;

-- Entries that belong to no purchase have no shop and no order; those that a person caused name the actor.
ALTER TABLE entries ALTER shop DROP NOT NULL, ALTER order_id DROP NOT NULL, ADD actor text,
    DROP CONSTRAINT entries_kind_check, DROP CONSTRAINT entries_check, DROP CONSTRAINT entries_check1;
ALTER TABLE entries
    ADD CONSTRAINT entries_kind CHECK (kind IN (
        'earned', 'tier_bonus', 'campaign', 'activity', 'clawed_back', 'covered', 'written_off', 'unlocked', 'expired',
        'captured', 'restored', 'adjusted', 'reversed', 'transferred')),
    ADD CONSTRAINT entries_parts CHECK (
        kind NOT IN ('earned', 'tier_bonus', 'campaign', 'activity', 'clawed_back') OR points = base + bonus),
    ADD CONSTRAINT entries_base CHECK (kind IN ('earned', 'campaign', 'activity', 'clawed_back') OR base = 0);
