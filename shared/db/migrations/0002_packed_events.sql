-- Many events of one transaction go packed (shared/events/parcel.py): a sixth of the bytes, in the table and in the log.
-- ``payloads`` is empty then.
ALTER TABLE outbox ADD packed bytea;
ALTER TABLE outbox ALTER packed SET STORAGE EXTERNAL;
