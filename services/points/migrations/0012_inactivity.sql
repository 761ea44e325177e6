-- Lots whose end moves: as long as the customer is active they stay (earning.expiry.kind: inactivity).

-- Of the line that opens such a lot: from active_from to expires_at the customer's activity that made it keeps all of
-- the customer's moving lots. It is expires_at itself where nothing the customer did made the lot (goodwill, a
-- transfer). null: the lot's end is fixed. expires_at of that line is the lot's end if nothing more is done.
ALTER TABLE entries ADD active_from timestamptz;
CREATE INDEX entries_moving ON entries (account_id) WHERE active_from IS NOT NULL;

-- Where a moving lot ends: its own end, or that of the unbroken activity in which it lies. At its very end a lot is gone,
-- so an activity at that instant does not keep it: hence spans that end a microsecond before.
CREATE FUNCTION renewed(expires_at timestamptz, spans tstzmultirange) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(
        (SELECT upper(span) + interval '1 microsecond' FROM unnest(spans) AS span
         WHERE span @> expires_at - interval '1 microsecond'),
        expires_at);

-- The lines that open moving lots. keeps: it tells of an activity that counts: not of a purchase whose credit was taken
-- back, nor of an act that turned out to give nothing, for had all been known in time they would not be here.
CREATE INDEX entries_acts ON entries (lot_id) WHERE kind = 'activity';
CREATE VIEW moving_lines AS
SELECT e.account_id, e.lot_id, e.occurred_at, e.active_from, e.expires_at,
       tstzrange(e.active_from, greatest(e.active_from, e.expires_at - interval '1 microsecond'), '[]') AS span,
       e.active_from < e.expires_at AND CASE e.kind
           WHEN 'earned' THEN NOT EXISTS (SELECT FROM withdrawals w WHERE w.purchase_id = e.lot_id)
           WHEN 'activity' THEN (SELECT sum(a.points) FROM entries a
                                 WHERE a.lot_id = e.lot_id AND a.kind = 'activity') > 0
           WHEN 'transferred' THEN e.order_id IS NULL OR NOT EXISTS (
               SELECT FROM withdrawals w JOIN entries p ON p.entry_id = w.purchase_id
               WHERE p.shop = e.shop AND p.order_id = e.order_id)
           ELSE true END AS keeps
FROM entries e WHERE e.active_from IS NOT NULL;

-- All moving lots with their ends, by all that is known.
CREATE VIEW moving_lots AS
SELECT account_id, lot_id,
       renewed(expires_at, range_agg(span) FILTER (WHERE keeps) OVER (PARTITION BY account_id)) AS expires_at
FROM moving_lines;

-- Those of an account, by what had happened by an instant. No row for nearly all accounts, after one look into an index;
-- plpgsql, so that statements which ask are planned as if it cost just that.
CREATE FUNCTION moving_lots_of(account bigint, at timestamptz) RETURNS TABLE (lot_id uuid, expires_at timestamptz)
    LANGUAGE plpgsql STABLE PARALLEL SAFE COST 20 ROWS 1 AS $$
#variable_conflict use_column
BEGIN
    IF EXISTS (SELECT FROM entries WHERE account_id = account AND active_from IS NOT NULL) THEN
        RETURN QUERY
        SELECT m.lot_id, renewed(m.expires_at, range_agg(m.span) FILTER (WHERE m.keeps) OVER ())
        FROM moving_lines m WHERE m.account_id = account AND m.occurred_at <= at;
    END IF;
END $$;
