-- Tokens of the control API, by hash. Read by billing/store/tokens.py.

-- insert --
-- $1 org or null, $2 sha256, $3 hint, $4 label, $5 scopes[], $6 by whom, $7 now, $8 expires at. Nothing where the hash is on record.
INSERT INTO billing.api_tokens (org_id, sha256, hint, label, scopes, created_by, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (sha256) DO NOTHING
RETURNING id

-- all --
-- Newest first, those that are over too. $1 org, or null for every token; $2 how many, or null; $3 of those before this one, or null
SELECT t.id, t.org_id, o.slug, t.sha256, t.hint, t.label, t.scopes, t.created_by, t.created_at, t.expires_at, t.revoked_at, t.revoked_by
FROM billing.api_tokens t LEFT JOIN billing.organizations o ON o.id = t.org_id
WHERE ($1::uuid IS NULL OR t.org_id = $1) AND ($3::bigint IS NULL OR t.id < $3)
ORDER BY t.id DESC
LIMIT $2

-- find --
-- One of a deleted organization is none. $1 number or null, $2 sha256 or null
SELECT t.id, t.org_id, o.slug, t.sha256, t.hint, t.label, t.scopes, t.created_by, t.created_at, t.expires_at, t.revoked_at, t.revoked_by
FROM billing.api_tokens t LEFT JOIN billing.organizations o ON o.id = t.org_id
WHERE (t.id = $1 OR t.sha256 = $2) AND o.deleted_at IS NULL

-- revoke --
-- $1 number, $2 now, $3 by whom. Nothing where it was revoked before, or there is none.
UPDATE billing.api_tokens SET revoked_at = $2, revoked_by = $3 WHERE id = $1 AND revoked_at IS NULL RETURNING id
