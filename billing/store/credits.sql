-- Grants of credit, and what they paid. Read by billing/store/credits.py.

-- insert --
-- $1 org, $2 identifier, $3 kind, $4 amount, $5 currency, $6 reason, $7 priority, $8 now, $9 expires.
-- Returns the id, or nothing where the identifier is known.
INSERT INTO billing.credit_grants
    (org_id, identifier, kind, amount, amount_left, currency, reason, priority, granted_at, expires_at)
VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9)
ON CONFLICT (identifier) DO NOTHING
RETURNING id

-- of_org --
-- $1 org
SELECT * FROM billing.credit_grants WHERE org_id = $1 ORDER BY id

-- lock_usable --
-- Locked in the order of ids: two invoices of one organization never pay from the same money, and never wait for each other in a ring.
-- $1 org, $2 currency
SELECT * FROM billing.credit_grants
WHERE org_id = $1 AND currency = $2 AND amount_left > 0 AND revoked_at IS NULL
ORDER BY id
FOR UPDATE

-- take --
-- $1 grants[], $2 amounts[]; below zero gives back
UPDATE billing.credit_grants g SET amount_left = amount_left - v.amount
FROM unnest($1::bigint[], $2::numeric[]) AS v (id, amount)
WHERE g.id = v.id

-- record --
-- $1 grants[], $2 amounts[], $3 org, $4 invoice, $5 now
INSERT INTO billing.credit_burns (org_id, grant_id, invoice_id, amount, burned_at)
SELECT $3, grant_id, $4, amount, $5
FROM unnest($1::bigint[], $2::numeric[]) WITH ORDINALITY AS v (grant_id, amount, i)
ORDER BY i

-- lock_burned --
-- The grants that still pay for an invoice, locked. $1 invoice
SELECT * FROM billing.credit_grants
WHERE id IN (SELECT grant_id FROM billing.credit_burns WHERE invoice_id = $1)
ORDER BY id
FOR UPDATE

-- burned --
-- What of each is still burned, in the order of burning. $1 invoice
SELECT grant_id, sum(amount) AS amount
FROM billing.credit_burns
WHERE invoice_id = $1
GROUP BY grant_id
HAVING sum(amount) > 0
ORDER BY min(id)

-- burns_of_org --
-- $1 org
SELECT grant_id, invoice_id, amount, burned_at FROM billing.credit_burns WHERE org_id = $1 ORDER BY id

-- revoke --
-- $1 org, $2 grant, $3 now
UPDATE billing.credit_grants SET revoked_at = $3 WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING *
