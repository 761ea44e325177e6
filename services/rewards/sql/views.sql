-- name: vouchers
-- A page of a customer's vouchers as they are at an instant, those of all ids that are the same person, newest first,
-- after a given one; one row of nulls for a customer without any, no row for an unknown one. Revoked ones show only when
-- asked for: their cause never was.
SELECT v.voucher_id, v.code_hash, v.key_version, v.definition, v.terms, v.state_now, v.issued_at, v.expires_at, v.cause_type,
       v.cause_id
FROM accounts AS a
LEFT JOIN LATERAL (
    SELECT *, voucher_state(state, expires_at, :at::timestamptz) AS state_now
    FROM vouchers
    WHERE account_id = ANY(accounts_of(a.account_id, a.person_id))
      AND CASE WHEN :state::text IS NULL THEN state <> 'revoked'
               ELSE voucher_state(state, expires_at, :at::timestamptz) = :state::text END
      AND (:after::timestamptz IS NULL OR (issued_at, voucher_id) < (:after::timestamptz, :after_id::uuid))
    ORDER BY issued_at DESC, voucher_id DESC
    LIMIT :rows::int
) AS v ON true
WHERE a.customer_id = :customer::text
ORDER BY v.issued_at DESC, v.voucher_id DESC;
