-- API keys, by hash. Read by billing/store/keys.py.

-- insert --
-- $1 org, $2 sha256, $3 hint, $4 label, $5 test, $6 imported, $7 created at, $8 expires at, $9 kind, $10 scopes[], $11 limits.
-- Nothing where the hash is on record.
INSERT INTO billing.api_keys (org_id, sha256, hint, label, test, imported, created_at, expires_at, kind, scopes, limits)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (sha256) DO NOTHING
RETURNING id

-- of_org --
-- $1 org
SELECT id, org_id, sha256, hint, label, test, imported, created_at, expires_at, revoked_at,
       kind, scopes, limits, replaced_by
FROM billing.api_keys
WHERE org_id = $1
ORDER BY id

-- find --
-- Of organizations that live. $1 number or null, $2 sha256 or null
SELECT k.id, k.org_id, k.sha256, k.hint, k.label, k.test, k.imported, k.created_at, k.expires_at, k.revoked_at,
       k.kind, k.scopes, k.limits, k.replaced_by
FROM billing.api_keys k
JOIN billing.organizations o ON o.id = k.org_id AND o.deleted_at IS NULL
WHERE k.id = $1 OR k.sha256 = $2

-- expire --
-- $1 number, $2 when
UPDATE billing.api_keys SET expires_at = $2 WHERE id = $1

-- replace --
-- $1 number, $2 the number of the key in its place
UPDATE billing.api_keys SET replaced_by = $2 WHERE id = $1

-- grant --
-- $1 number, $2 scopes[], $3 limits
UPDATE billing.api_keys SET scopes = $2, limits = $3 WHERE id = $1

-- revoke --
-- $1 numbers[], $2 when
UPDATE billing.api_keys SET revoked_at = $2 WHERE id = ANY($1::bigint[]) AND revoked_at IS NULL

-- owners --
-- $1 hashes[], $2 now
SELECT k.sha256, k.org_id
FROM billing.api_keys k
JOIN billing.organizations o ON o.id = k.org_id AND o.deleted_at IS NULL
WHERE k.sha256 = ANY($1::text[]) AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)
