-- What customers pay with, and tries to charge them. Read by billing/store/payments.py.

-- put_method --
-- $1 id, $2 org, $3 type, $4 brand, $5 last4, $6 month, $7 year, $8 now
INSERT INTO billing.payment_methods (id, org_id, type, brand, last4, exp_month, exp_year, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE
SET org_id = excluded.org_id, type = excluded.type, brand = excluded.brand, last4 = excluded.last4,
    exp_month = excluded.exp_month, exp_year = excluded.exp_year

-- drop_method --
-- $1 id
DELETE FROM billing.payment_methods WHERE id = $1 RETURNING org_id

-- methods --
-- $1 org
SELECT m.*, m.id IS NOT DISTINCT FROM c.default_payment_method AS is_default
FROM billing.payment_methods m
LEFT JOIN billing.customers c ON c.org_id = m.org_id
WHERE m.org_id = $1
ORDER BY is_default DESC, m.created_at, m.id

-- set_default --
-- $1 org, $2 id or null
UPDATE billing.customers SET default_payment_method = $2 WHERE org_id = $1 AND default_payment_method IS DISTINCT FROM $2

-- charged --
-- $1 org
SELECT coalesce(
    (SELECT default_payment_method FROM billing.customers WHERE org_id = $1::uuid),
    (SELECT min(id) FROM billing.payment_methods WHERE org_id = $1::uuid HAVING count(*) = 1)
)

-- begin --
-- $1 invoice, $2 attempt, $3 org, $4 amount, $5 currency, $6 customer, $7 method, $8 state, $9 reason, $10 now
INSERT INTO billing.payment_attempts
    (invoice_id, attempt, org_id, amount_minor, currency, customer, method, state, reason, begun_at, settled_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $8 <> 'unknown' THEN $10::timestamptz END)
ON CONFLICT (invoice_id, attempt) DO NOTHING

-- one --
-- $1 invoice, $2 attempt
SELECT * FROM billing.payment_attempts WHERE invoice_id = $1 AND attempt = $2

-- lock_invoice --
-- Tries of one invoice begin one after another, the first as well, which finds no row to lock. $1 invoice
SELECT pg_advisory_xact_lock(hashtextextended('payments of ' || $1, 0))

-- of_invoice --
-- $1 invoice
SELECT * FROM billing.payment_attempts WHERE invoice_id = $1 ORDER BY attempt

-- by_payment_id --
-- $1 payment
SELECT * FROM billing.payment_attempts WHERE payment_id = $1

-- settle --
-- What is paid stays paid, and nothing becomes unknown again. $1 invoice, $2 attempt, $3 state, $4 reason, $5 payment, $6 now
UPDATE billing.payment_attempts
SET state = $3, reason = $4, payment_id = coalesce($5, payment_id), settled_at = CASE WHEN $3 <> 'unknown' THEN $6::timestamptz END
WHERE invoice_id = $1 AND attempt = $2 AND (state = 'unknown' OR state <> 'paid' AND $3 NOT IN ('unknown', state))
RETURNING invoice_id

-- unknown --
-- $1 begun before, $2 how many
SELECT * FROM billing.payment_attempts WHERE state = 'unknown' AND begun_at <= $1 ORDER BY begun_at LIMIT $2

-- refunded --
-- $1 invoice, $2 attempt, $3 how much in all
UPDATE billing.payment_attempts SET refunded_minor = $3 WHERE invoice_id = $1 AND attempt = $2
