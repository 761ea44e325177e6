-- name: statement_moves
-- All lines of a customer's account as far as sums need them; one row of nulls for an account without any, no row
-- for an unknown customer.
SELECT a.account_id, e.seq, e.kind, e.points, e.lot_id, e.occurred_at,
       coalesce(m.expires_at, e.expires_at) AS expires_at, e.shop, e.order_id
FROM accounts a LEFT JOIN entries e ON e.account_id = a.account_id AND e.kind NOT IN ('expired', 'unlocked')
LEFT JOIN LATERAL moving_lots_of(a.account_id, 'infinity') m ON m.lot_id = e.lot_id
WHERE a.account_id = account_of(:customer::text)
ORDER BY e.seq;

-- name: statement_lines
-- What a statement says of some lines of an account beside their points.
SELECT seq, entry_id, recorded_at, explanation
FROM entries
WHERE account_id = :account::bigint AND occurred_at >= :start::timestamptz AND occurred_at < :end::timestamptz
  AND kind NOT IN ('expired', 'unlocked');

-- name: flows
-- Points by local month and kind, of everything that happened before an instant; expiry is not among it.
SELECT to_char(occurred_at AT TIME ZONE :zone::text, 'YYYY-MM') AS month, kind, sum(points)::bigint AS points
FROM entries
WHERE occurred_at < :until::timestamptz AND kind NOT IN ('expired', 'unlocked')
GROUP BY 1, 2;

-- name: plain_losses
-- What was lost by an instant, by the local month with whose last moments it went, of lots in which nothing moved
-- after their end and of which no hold kept anything beyond it: nearly all. Such a lot loses what was left.
WITH ended AS (
    SELECT lot_id, min(expires_at) AS expires_at, sum(points) AS points, max(occurred_at) AS moved_at
    FROM (SELECT e.lot_id, e.points, e.occurred_at, e.kind, coalesce(m.expires_at, e.expires_at) AS expires_at
          FROM entries e LEFT JOIN moving_lots m USING (lot_id)) e
    WHERE expires_at <= :at::timestamptz AND occurred_at <= :until::timestamptz AND kind NOT IN ('expired', 'unlocked')
    GROUP BY lot_id),
kept AS (
    SELECT e.lot_id FROM holds h, unnest(h.lots) AS u(lot_id) JOIN ended e USING (lot_id)
    WHERE h.held_at < e.expires_at AND h.ended_at > e.expires_at)
SELECT to_char((expires_at - interval '1 microsecond') AT TIME ZONE :zone::text, 'YYYY-MM') AS month,
       sum(points)::bigint AS points
FROM ended
WHERE points > 0 AND moved_at < expires_at AND lot_id NOT IN (SELECT lot_id FROM kept)
GROUP BY 1;

-- name: odd_losses
-- The lines of the other lots that ended by that instant: few, so what they lost is worked out one by one.
WITH ended AS (
    SELECT lot_id, min(expires_at) AS expires_at, max(occurred_at) AS moved_at
    FROM (SELECT e.lot_id, e.points, e.occurred_at, e.kind, coalesce(m.expires_at, e.expires_at) AS expires_at
          FROM entries e LEFT JOIN moving_lots m USING (lot_id)) e
    WHERE expires_at <= :at::timestamptz AND occurred_at <= :until::timestamptz AND kind NOT IN ('expired', 'unlocked')
    GROUP BY lot_id),
odd AS (
    SELECT lot_id FROM ended WHERE moved_at >= expires_at
    UNION
    SELECT e.lot_id FROM holds h, unnest(h.lots) AS u(lot_id) JOIN ended e USING (lot_id)
    WHERE h.held_at < e.expires_at AND h.ended_at > e.expires_at)
SELECT e.lot_id, e.points, e.occurred_at, coalesce(m.expires_at, e.expires_at) AS expires_at
FROM entries e JOIN odd USING (lot_id) LEFT JOIN moving_lots m USING (lot_id)
WHERE e.occurred_at <= :until::timestamptz AND e.kind NOT IN ('expired', 'unlocked')
ORDER BY e.lot_id;

-- name: parts_of_lots
-- What holds reserve, or had reserved, of these lots: each part with the hold's beginning and end (exclusive).
SELECT u.lot_id, h.held_at, h.ended_at, u.points
FROM holds h, unnest(h.lots, h.parts) AS u(lot_id, points)
WHERE h.lots && :lots::uuid[] AND u.lot_id = ANY(:lots::uuid[]) AND h.held_at < h.ended_at
ORDER BY h.held_at, h.hold_id;

-- name: parts_of_account
-- The same of all lots of an account.
SELECT u.lot_id, h.held_at, h.ended_at, u.points
FROM holds h, unnest(h.lots, h.parts) AS u(lot_id, points)
WHERE h.account_id = :account::bigint AND h.held_at < h.ended_at
ORDER BY h.held_at, h.hold_id;

-- name: first_month
-- The local month of the oldest line of the ledger; null while there is none.
SELECT to_char(min(occurred_at) AT TIME ZONE :zone::text, 'YYYY-MM') AS month FROM entries;
