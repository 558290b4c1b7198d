-- What must reach Stripe, as the services write it. Delivery reads it by delivery.sql.

-- add --
-- One row; an identifier that is known already is left out.
-- $1 kind, $2 org_id, $3 identifier, $4 payload, $5 now
INSERT INTO billing.outbox (kind, org_id, customer_key, identifier, payload, created_at)
VALUES ($1, $2::uuid, $2::uuid::text, $3, $4::jsonb, $5)
ON CONFLICT (identifier) DO NOTHING;

-- has --
-- Was a row of this kind ever written for the organization.
-- $1 org_id, $2 kind
SELECT EXISTS (SELECT FROM billing.outbox WHERE org_id = $1::uuid AND kind = $2);

-- waiting --
-- $1 org_id
SELECT EXISTS (
    SELECT FROM billing.outbox WHERE org_id = $1::uuid AND state = 'pending' AND kind NOT IN ('meter_event', 'ensure_customer', 'ensure_plan', 'invoice_item')
);

-- kept --
-- Newest first. $1 states[], $2 how many, $3 of those before this one, or null
SELECT o.id, o.kind, o.org_id::text, g.slug, o.identifier, o.payload::text, o.state, o.attempts, o.first_attempt_at, o.next_attempt_at,
    o.last_error, o.created_at, o.delivered_at
FROM billing.outbox o JOIN billing.organizations g ON g.id = o.org_id
WHERE o.state = ANY ($1::text[]) AND ($3::bigint IS NULL OR o.id < $3)
ORDER BY o.id DESC
LIMIT $2;

-- find --
-- By number or identifier. $1 what was typed
SELECT o.id, o.kind, o.org_id::text, g.slug, o.identifier, o.payload::text, o.state, o.attempts, o.first_attempt_at, o.next_attempt_at,
    o.last_error, o.created_at, o.delivered_at
FROM billing.outbox o JOIN billing.organizations g ON g.id = o.org_id
WHERE o.identifier = $1 OR o.id::text = $1;
