-- Bypasses, kept as a record. Read by billing/store/bypasses.py.

-- insert --
-- $1 org or null, $2 meter or null, $3 reason, $4 by whom, $5 now, $6 until
INSERT INTO billing.bypasses (org_id, meter, reason, created_by, created_at, until) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id

-- all --
-- Newest first. $1 how many, $2 of those before this one, or null
SELECT b.id, b.org_id, o.slug, b.meter, b.reason, b.created_by, b.created_at, b.until, b.ended_at, b.ended_by
FROM billing.bypasses b LEFT JOIN billing.organizations o ON o.id = b.org_id
WHERE $2::bigint IS NULL OR b.id < $2
ORDER BY b.id DESC
LIMIT $1

-- in_force --
-- $1 now
SELECT b.id, b.org_id, o.slug, b.meter, b.reason, b.created_by, b.created_at, b.until, b.ended_at, b.ended_by
FROM billing.bypasses b LEFT JOIN billing.organizations o ON o.id = b.org_id
WHERE b.ended_at IS NULL AND b.until > $1
ORDER BY b.id

-- one_publisher --
-- What is read after it is told before anybody else reads.
SELECT pg_advisory_xact_lock(1702063989, 5)

-- end --
-- $1 number, $2 now, $3 by whom. Nothing where it is over, or there is none.
UPDATE billing.bypasses SET ended_at = $2, ended_by = $3 WHERE id = $1 AND ended_at IS NULL AND until > $2 RETURNING id
