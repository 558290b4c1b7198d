-- Mails that must go out, as the use cases write them.

-- add --
-- One mail; an identifier that is known already is left out.
-- $1 org_id, $2 kind, $3 identifier, $4 recipient, $5 facts, $6 due_at, $7 now
INSERT INTO billing.mails (org_id, kind, identifier, recipient, facts, due_at, created_at)
VALUES ($1::uuid, $2, $3, $4, $5::jsonb, $6, $7)
ON CONFLICT (identifier) DO NOTHING;

-- drop --
-- Mails of these kinds that did not go out yet are not wanted any more.
-- $1 org_id, $2 kinds[], $3 now
UPDATE billing.mails SET state = 'dropped', closed_at = $3
WHERE org_id = $1::uuid AND kind = ANY ($2::text[]) AND state = 'waiting'
RETURNING id;
