-- Overridden quotas. Read by billing/store/quotas.py.

-- managed --
-- Of organizations that live. $1 file or api
SELECT q.org_id, q.meter, q.limit_units, q.time_window, q.mode, q.per, q.on_store_failure, q.reason, q.until, q.managed_by
FROM billing.quotas q
JOIN billing.organizations o ON o.id = q.org_id AND o.deleted_at IS NULL
WHERE q.managed_by = $1
ORDER BY q.org_id, q.id

-- of_org --
-- $1 org
SELECT org_id, meter, limit_units, time_window, mode, per, on_store_failure, reason, until, managed_by
FROM billing.quotas
WHERE org_id = $1
ORDER BY managed_by DESC, id

-- remove --
-- $1 orgs[], $2 file or api
DELETE FROM billing.quotas WHERE org_id = ANY($1::uuid[]) AND managed_by = $2

-- put --
-- $1 org, $2 meter, $3 limit, $4 window, $5 mode, $6 per, $7 failure rule, $8 reason, $9 until, $10 file or api, $11 now
INSERT INTO billing.quotas
    (org_id, meter, limit_units, time_window, mode, per, on_store_failure, reason, until, managed_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (org_id, managed_by, meter, time_window, per) DO UPDATE
SET limit_units = excluded.limit_units, mode = excluded.mode, on_store_failure = excluded.on_store_failure,
    reason = excluded.reason, until = excluded.until, created_at = excluded.created_at
