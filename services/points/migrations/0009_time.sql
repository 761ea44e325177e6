-- What time does is told per account: when to look at it next. The job finds the accounts that are due by an index
-- and never scans the ledger; NULL: nothing of it will unlock or expire.

-- Set with every entry to the least of what it was and what the entry's lot brings; the job sets it anew. It seldom
-- changes (the earliest date of an account stays the earliest), so most updates of an account still touch no index.
ALTER TABLE accounts ADD due_at timestamptz;
UPDATE accounts SET due_at = now() WHERE seq > 0;
CREATE INDEX accounts_due ON accounts (due_at) WHERE due_at IS NOT NULL;
