-- Who invoices go to. Read by billing/store/customers.py.

-- insert --
-- $1 org, $2 email, $3 name, $4 currency, $5 now
INSERT INTO billing.customers (org_id, email, name, currency, created_at)
VALUES ($1::uuid, $2, $3, $4, $5);

-- emails --
-- $1 org_ids[]
SELECT org_id, email FROM billing.customers WHERE org_id = ANY ($1::uuid[]);

-- with_email --
-- $1 address
SELECT c.org_id FROM billing.customers c
JOIN billing.organizations o ON o.id = c.org_id AND o.deleted_at IS NULL
WHERE lower(c.email) = lower($1)
ORDER BY c.org_id;

-- mirror --
-- $1 org_id, $2 name or null, $3 email or null
UPDATE billing.customers SET name = coalesce(nullif($2, ''), name), email = coalesce($3, email)
WHERE org_id = $1::uuid AND (name, email) IS DISTINCT FROM (coalesce(nullif($2, ''), name), coalesce($3, email));

-- get --
-- $1 org
SELECT c.*, s.stripe_id
FROM billing.customers c
LEFT JOIN billing.stripe_objects s ON s.kind = 'customer' AND s.key = c.org_id::text
WHERE c.org_id = $1

-- get_locked --
-- $1 org
SELECT c.*, s.stripe_id
FROM billing.customers c
LEFT JOIN billing.stripe_objects s ON s.kind = 'customer' AND s.key = c.org_id::text
WHERE c.org_id = $1
FOR UPDATE OF c

-- put --
-- $1 org, $2 name, $3 currency, $4 email, $5 phone, $6 line1, $7 line2, $8 city, $9 state, $10 postal code, $11 country, $12 tax ids,
-- $13 language, $14 user, $15 marketplace, $16 customer's id there
UPDATE billing.customers
SET name = $2, currency = $3, email = $4, phone = $5, line1 = $6, line2 = $7, city = $8, state = $9, postal_code = $10, country = $11,
    tax_ids = $12::jsonb, language = $13, user_id = $14, marketplace = $15, marketplace_customer_id = $16
WHERE org_id = $1

-- at_stripe --
-- $1 cus_…
SELECT key FROM billing.stripe_objects WHERE kind = 'customer' AND stripe_id = $1

-- lifetime --
-- $1 org, $2 currency
SELECT (SELECT count(*) FROM billing.payment_methods WHERE org_id = $1) AS methods,
    coalesce(sum(i.amount_paid), 0) AS paid,
    count(DISTINCT date_trunc('month', coalesce(i.finalized_at, i.created_at), 'UTC')) AS months
FROM billing.invoices i
WHERE i.org_id = $1 AND i.currency = $2 AND i.status = 'paid'
