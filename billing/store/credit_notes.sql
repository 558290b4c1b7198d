-- Credit notes, receipts and balances (billing/store/credit_notes.py).

-- add_note --
-- $1 id, $2 org_id, $3 invoice_id, $4 number, $5 currency, $6 subtotal, $7 tax, $8 total, $9 off_due, $10 refunded, $11 to_balance,
-- $12 reason, $13 created_at
INSERT INTO billing.credit_notes
    (id, org_id, invoice_id, number, currency, subtotal, tax, total, off_due, refunded, to_balance, reason, created_at)
VALUES ($1, $2::uuid, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- add_note_line --
-- $1 credit_note_id, $2 org_id, $3 position, $4 description, $5 amount
INSERT INTO billing.credit_note_lines (credit_note_id, org_id, position, description, amount) VALUES ($1, $2::uuid, $3, $4, $5)

-- notes --
-- $1 invoice_id
SELECT * FROM billing.credit_notes WHERE invoice_id = $1 ORDER BY created_at, number, id

-- note_lines --
-- $1 invoice_id
SELECT l.* FROM billing.credit_note_lines l JOIN billing.credit_notes n ON n.id = l.credit_note_id
WHERE n.invoice_id = $1 ORDER BY l.credit_note_id, l.position

-- add_receipt --
-- $1 org_id, $2 invoice_id, $3 kind, $4 amount, $5 currency, $6 method, $7 reference, $8 at
INSERT INTO billing.receipts (org_id, invoice_id, kind, amount, currency, method, reference, at)
VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (invoice_id, kind, reference) DO NOTHING
RETURNING id

-- receipts --
-- $1 invoice_id
SELECT * FROM billing.receipts WHERE invoice_id = $1 ORDER BY at, id

-- add_entry --
-- $1 org_id, $2 currency, $3 identifier, $4 amount, $5 invoice_id, $6 at
INSERT INTO billing.balance_entries (org_id, currency, identifier, amount, invoice_id, at)
VALUES ($1::uuid, $2, $3, $4, $5, $6)
ON CONFLICT (identifier) DO NOTHING
RETURNING id

-- hold_balance --
-- Nobody else spends of it until the transaction ends. $1 org_id
SELECT pg_advisory_xact_lock(1650553452, hashtext($1))

-- balance --
-- $1 org_id, $2 currency
SELECT coalesce(sum(amount), 0) FROM billing.balance_entries WHERE org_id = $1::uuid AND currency = $2
