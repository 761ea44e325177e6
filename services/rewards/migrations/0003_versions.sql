-- Claims that are decided anew: what a cause gives follows the version of the program in force at its instant.

-- A late event may move a cause into the time of another version. Then it is decided by that one, as a further claim;
-- the newest counts. A voucher tells by which claim it has its terms.
ALTER TABLE claims ADD claim int NOT NULL DEFAULT 1 CHECK (claim > 0);
ALTER TABLE vouchers ADD claim int NOT NULL DEFAULT 1;
ALTER TABLE vouchers DROP CONSTRAINT vouchers_account_id_cause_type_cause_id_fkey;
ALTER TABLE claims DROP CONSTRAINT claims_pkey, ADD PRIMARY KEY (account_id, cause_type, cause_id, claim);
ALTER TABLE vouchers ADD FOREIGN KEY (account_id, cause_type, cause_id, claim) REFERENCES claims;
