-- What waits to be billed.

-- add --
-- One item; an identifier that is known already is left out.
-- $1 org_id, $2 identifier, $3 kind, $4 description, $5 quantity, $6 unit_price, $7 amount, $8 currency, $9 period_start, $10 period_end,
-- $11 meter, $12 evidence, $13 now
INSERT INTO billing.invoice_items
    (org_id, identifier, kind, description, quantity, unit_price, amount, currency, period_start, period_end, meter, evidence, created_at)
VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::jsonb, $13)
ON CONFLICT (identifier) DO NOTHING;

-- waiting --
-- Those of one organization that no invoice has taken up, in the order they were written; held until the transaction ends.
-- $1 org_id, $2 currency
SELECT * FROM billing.invoice_items WHERE org_id = $1::uuid AND currency = $2 AND invoice_id IS NULL ORDER BY id FOR UPDATE;

-- take_up --
-- $1 ids[], $2 invoice_id
UPDATE billing.invoice_items SET invoice_id = $2 WHERE id = ANY ($1::bigint[]) AND invoice_id IS NULL RETURNING id;
