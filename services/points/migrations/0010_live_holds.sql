-- What live holds reserve is asked for with every command of spending: found without going through those that ended.

-- Said like this, only statements that say it in the same way use it: those that ask for an account. What asks for the
-- time (state = 'held') goes by holds_due.
CREATE INDEX holds_live ON holds (account_id)
    WHERE state NOT IN ('captured', 'released', 'expired', 'declined');
