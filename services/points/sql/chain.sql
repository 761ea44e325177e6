-- name: checkpoint^
-- Tie the last links of all chains together, if that was last done before ``due``; no row if it was not time yet, or
-- if another worker was quicker. One hop a chain finds the heads: there may be a great many links.
WITH RECURSIVE heads AS (
    (SELECT chain, number, hash FROM chain ORDER BY chain, number DESC LIMIT 1)
    UNION ALL
    SELECT h.* FROM heads p CROSS JOIN LATERAL (
        SELECT chain, number, hash FROM chain c WHERE c.chain > p.chain ORDER BY chain, number DESC LIMIT 1) AS h),
next AS (
    SELECT coalesce(l.number, 0) + 1 AS number, l.hash AS previous,
           (SELECT json_agg(json_build_array(chain, number, encode(hash, 'hex')) ORDER BY chain) FROM heads) AS heads,
           (SELECT sum(number)::bigint FROM heads) AS links,
           (SELECT count(*) FROM entries WHERE batch IS NULL) AS unchained
    FROM (SELECT) AS one
    LEFT JOIN (SELECT number, hash, recorded_at FROM checkpoints ORDER BY number DESC LIMIT 1) AS l ON true
    WHERE l.recorded_at IS NULL OR l.recorded_at <= :due::timestamptz)
INSERT INTO checkpoints (number, heads, links, unchained, previous, hash, recorded_at)
SELECT number, heads, links, unchained, previous,
       checkpoint_hash(number, heads, unchained, previous, :now::timestamptz), :now::timestamptz
FROM next WHERE heads IS NOT NULL
ON CONFLICT DO NOTHING
RETURNING number, links, json_array_length(heads) AS chains, encode(hash, 'hex') AS hash;

-- name: newest_checkpoint^
-- When and how all was last tied together.
SELECT number, encode(hash, 'hex') AS hash, recorded_at FROM checkpoints ORDER BY number DESC LIMIT 1;

-- name: links
-- All links with the digests of their entries, by batch.
SELECT batch, chain, number, digests, recorded_at FROM chain ORDER BY batch;

-- name: chained
-- All entries with a batch, by batch, with whatever columns they have.
SELECT e.*, a.customer_id FROM entries e JOIN accounts a USING (account_id) WHERE e.batch IS NOT NULL
ORDER BY e.batch;
