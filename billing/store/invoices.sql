-- Invoices and their lines (billing/store/invoices.py).

-- add --
-- One invoice; an identifier that is known already is left out.
-- $1 id, $2 org_id, $3 issuer, $4 identifier, $5 status, $6 currency, $7 number, $8 subtotal, $9 discount, $10 tax, $11 total, $12 credit,
-- $13 amount_due, $14 amount_paid, $15 credited, $16 carried, $17 tax_rate, $18 tax_inclusive, $19 period_start, $20 period_end,
-- $21 created_at, $22 finalized_at, $23 due_at, $24 paid_at, $25 closed_at, $26 attempt_count, $27 next_retry, $28 stripe_id,
-- $29 payment_method, $30 seller, $31 buyer
INSERT INTO billing.invoices (
    id, org_id, issuer, identifier, status, currency, number, subtotal, discount, tax, total, credit, amount_due, amount_paid, credited,
    carried, tax_rate, tax_inclusive, period_start, period_end, created_at, finalized_at, due_at, paid_at, closed_at, attempt_count,
    next_retry, stripe_id, payment_method, seller, buyer
)
VALUES ($1, $2::uuid, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27,
    $28, $29, $30::jsonb, $31::jsonb)
ON CONFLICT (identifier) DO NOTHING
RETURNING id

-- save --
-- As it stands now; the columns as in `add`.
UPDATE billing.invoices SET
    org_id = $2::uuid, issuer = $3, identifier = $4, status = $5, currency = $6, number = $7, subtotal = $8, discount = $9, tax = $10,
    total = $11, credit = $12, amount_due = $13, amount_paid = $14, credited = $15, carried = $16, tax_rate = $17, tax_inclusive = $18,
    period_start = $19, period_end = $20, created_at = $21, finalized_at = $22, due_at = $23, paid_at = $24, closed_at = $25,
    attempt_count = $26, next_retry = $27, stripe_id = $28, payment_method = $29, seller = $30::jsonb, buyer = $31::jsonb
WHERE id = $1

-- add_line --
-- $1 invoice_id, $2 position, $3 kind, $4 description, $5 quantity, $6 unit_price, $7 amount, $8 meter, $9 period_start, $10 period_end,
-- $11 item_id, $12 reference, $13 evidence
INSERT INTO billing.invoice_lines (
    invoice_id, position, kind, description, quantity, unit_price, amount, meter, period_start, period_end, item_id, reference, evidence
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb)

-- lines --
-- $1 invoice_ids[]
SELECT * FROM billing.invoice_lines WHERE invoice_id = ANY ($1::text[]) ORDER BY invoice_id, position

-- get --
-- $1 id, number or Stripe's id
SELECT * FROM billing.invoices WHERE id = $1 OR number = $1 OR stripe_id = $1

-- lock --
-- $1 id, number or Stripe's id
SELECT * FROM billing.invoices WHERE id = $1 OR number = $1 OR stripe_id = $1 FOR UPDATE

-- find --
-- $1 org_id or null, $2 states[] or null, $3 from, $4 to (of the date on it; null: open), $5 at most so many
SELECT * FROM billing.invoices
WHERE ($1::uuid IS NULL OR org_id = $1) AND ($2::text[] IS NULL OR status = ANY ($2))
    AND ($3::timestamptz IS NULL OR coalesce(finalized_at, created_at) >= $3)
    AND ($4::timestamptz IS NULL OR coalesce(finalized_at, created_at) < $4)
ORDER BY coalesce(finalized_at, created_at) DESC, number DESC NULLS FIRST, id
LIMIT $5

-- page --
-- In the order of place_of (billing/services/ports_invoice.py), backwards.
-- $1 org_id or null, $2 states[] or null, $3 from, $4 to (of the date on it; null: open), $5 date in ms, $6 number and $7 id of the
-- place (null: from the beginning), $8 at most so many
SELECT i.* FROM billing.invoices i
CROSS JOIN LATERAL (
    SELECT floor(extract(epoch FROM coalesce(i.finalized_at, i.created_at)) * 1000)::bigint AS dated_ms, coalesce(i.number, '~') AS called
) p
WHERE ($1::uuid IS NULL OR i.org_id = $1) AND ($2::text[] IS NULL OR i.status = ANY ($2))
    AND ($3::timestamptz IS NULL OR coalesce(i.finalized_at, i.created_at) >= $3)
    AND ($4::timestamptz IS NULL OR coalesce(i.finalized_at, i.created_at) < $4)
    AND ($5::bigint IS NULL OR (p.dated_ms, p.called COLLATE "C", i.id COLLATE "C") < ($5, $6::text COLLATE "C", $7::text COLLATE "C"))
ORDER BY p.dated_ms DESC, p.called COLLATE "C" DESC, i.id COLLATE "C" DESC
LIMIT $8

-- drop_lines --
-- $1 invoice_id
DELETE FROM billing.invoice_lines WHERE invoice_id = $1

-- release --
-- What stood on it waits again. $1 invoice_id
UPDATE billing.invoice_items SET invoice_id = NULL WHERE invoice_id = $1

-- drop --
-- $1 id
DELETE FROM billing.invoices WHERE id = $1 AND status = 'draft'

-- count --
-- $1 org_id, $2 beginning of the identifiers
SELECT count(*) FROM billing.invoices WHERE org_id = $1::uuid AND starts_with(identifier, $2)

-- next_number --
-- The row stays locked until the transaction ends, and a transaction that is undone gives its number back. $1 name
UPDATE billing.invoice_counters SET last = last + 1 WHERE name = $1 RETURNING prefix, last
