-- What the demonstration tells at its end.

-- name: points_earlier
-- points: when the purchase of an event took place, if it was ever published here.
SELECT occurred_at FROM entries WHERE event_key = :event::uuid AND kind = 'earned'
UNION ALL
SELECT occurred_at FROM uncredited WHERE event_key = :event::uuid
LIMIT 1;

-- name: points_purchases
-- points: what became of the records of the purchases' topic.
SELECT coalesce(sum(applied), 0)::bigint AS applied, coalesce(sum(duplicates), 0)::bigint AS duplicates,
       coalesce(sum(poison), 0)::bigint AS poison
FROM offsets WHERE topic = 'treue.purchases';

-- name: points_totals
-- points: customers, and points in sum: earned, through a tier, taken back, spendable now.
SELECT count(DISTINCT account_id) AS customers,
       coalesce(sum(points) FILTER (WHERE kind <> 'clawed_back'), 0)::bigint AS points,
       coalesce(sum(bonus) FILTER (WHERE kind <> 'clawed_back'), 0)::bigint AS bonus,
       coalesce(-sum(points) FILTER (WHERE kind = 'clawed_back'), 0)::bigint AS taken,
       (SELECT coalesce(sum(rest), 0)::bigint FROM (
            SELECT greatest(sum(e.points), 0) AS rest FROM entries e LEFT JOIN moving_lots m USING (lot_id)
            WHERE e.available_at <= now() AND coalesce(m.expires_at, e.expires_at, 'infinity') > now()
            GROUP BY lot_id) AS lots) AS available,
       (SELECT count(*) FROM uncredited WHERE why = 'guest') AS guests,
       count(*) FILTER (WHERE kind = 'earned') AS credited
FROM entries;

-- name: points_cancellations
-- points: what became of refunds that name no order, by state.
SELECT o.state, count(*) AS count FROM refunds r JOIN refund_outcomes o USING (refund_key)
WHERE r.order_id IS NULL GROUP BY o.state;

-- name: tiers_levels
-- tiers: customers per level; null is whoever has reached none above the lowest. Several ids of a person count once.
SELECT level, count(*) AS customers FROM accounts
WHERE person_id IS NULL OR person_id = account_id GROUP BY level;

-- name: rewards_vouchers
-- rewards: vouchers per definition, and how many of them are valid now.
SELECT definition, count(*) AS issued,
       count(*) FILTER (WHERE state = 'issued' AND (expires_at IS NULL OR expires_at > now())) AS valid
FROM vouchers WHERE state <> 'revoked' GROUP BY definition ORDER BY definition;

-- name: tiers_candidates
-- tiers: customers with something to tell, the fullest way first, also of what came back; not those with hundreds of
-- purchases.
SELECT customer_id FROM (
    SELECT a.customer_id, json_array_length(a.timeline) AS moves, count(q.entry_id) AS purchases,
           (SELECT count(DISTINCT s.lot_id) FROM standings s WHERE s.account_id = a.account_id) AS returned,
           (a.timeline -> -1 ->> 'since')::timestamptz - (a.timeline -> 0 ->> 'since')::timestamptz AS span
    FROM accounts a JOIN qualifying q USING (account_id) GROUP BY a.account_id) AS told
ORDER BY moves >= 2 DESC, purchases BETWEEN 4 AND 40 DESC, returned BETWEEN 1 AND 3 DESC, span DESC NULLS LAST,
         purchases DESC, customer_id COLLATE "C"
LIMIT 500;

-- name: rewards_holders
-- rewards: those of the candidates who hold a voucher that is valid now, in their order.
SELECT a.customer_id FROM unnest(:customers::text[]) WITH ORDINALITY AS c(customer_id, place)
JOIN accounts a USING (customer_id)
WHERE EXISTS (SELECT FROM vouchers v WHERE v.account_id = a.account_id AND v.state = 'issued'
              AND (v.expires_at IS NULL OR v.expires_at > now()))
ORDER BY c.place LIMIT 1;
