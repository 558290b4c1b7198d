-- Overridden quotas, rates and calls in flight. Read by billing/store/quotas.py.

-- managed --
-- Of organizations that live. $1 file or api
SELECT q.org_id, q.meter, q.limit_units, q.time_window, q.mode, q.per, q.on_store_failure, q.terms, q.reason, q.until, q.managed_by
FROM billing.quotas q
JOIN billing.organizations o ON o.id = q.org_id AND o.deleted_at IS NULL
WHERE q.managed_by = $1
ORDER BY q.org_id, q.id

-- of_org --
-- $1 org
SELECT org_id, meter, limit_units, time_window, mode, per, on_store_failure, terms, reason, until, managed_by
FROM billing.quotas
WHERE org_id = $1
ORDER BY billing.override_rank(managed_by), id

-- remove --
-- But those in whose place others are put next: they change, and the audit log says from what to what.
-- $1 orgs[], $2 file or api; of those that are put $3 orgs[], $4 meters[], $5 windows[], $6 pers[]
DELETE FROM billing.quotas q
WHERE org_id = ANY($1::uuid[]) AND managed_by = $2 AND NOT EXISTS (
    SELECT FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[]) AS n (org_id, meter, time_window, per)
    WHERE n.org_id = q.org_id AND n.meter = q.meter AND n.time_window = q.time_window AND n.per = q.per
)

-- put --
-- $1 org, $2 meter, $3 limit, $4 window, $5 mode, $6 per, $7 failure rule, $8 terms, $9 reason, $10 until, $11 file or api, $12 now
INSERT INTO billing.quotas
    (org_id, meter, limit_units, time_window, mode, per, on_store_failure, terms, reason, until, managed_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (org_id, managed_by, meter, time_window, per) DO UPDATE
SET limit_units = excluded.limit_units, mode = excluded.mode, on_store_failure = excluded.on_store_failure,
    terms = excluded.terms, reason = excluded.reason, until = excluded.until, created_at = excluded.created_at

-- limits_managed --
-- Of organizations that live. $1 file or api
SELECT l.org_id, l.kind, l.terms, l.reason, l.until, l.managed_by
FROM billing.override_limits l
JOIN billing.organizations o ON o.id = l.org_id AND o.deleted_at IS NULL
WHERE l.managed_by = $1
ORDER BY l.org_id, l.id

-- limits_of_org --
-- $1 org
SELECT org_id, kind, terms, reason, until, managed_by FROM billing.override_limits WHERE org_id = $1 ORDER BY managed_by DESC, id

-- limits_remove --
-- As `remove`. $1 orgs[], $2 file or api; of those that are put $3 orgs[], $4 kinds[], $5 slots[]
DELETE FROM billing.override_limits l
WHERE org_id = ANY($1::uuid[]) AND managed_by = $2 AND NOT EXISTS (
    SELECT FROM unnest($3::uuid[], $4::text[], $5::text[]) AS n (org_id, kind, slot)
    WHERE n.org_id = l.org_id AND n.kind = l.kind AND n.slot = l.slot
)

-- limits_put --
-- $1 org, $2 kind, $3 slot, $4 terms, $5 reason, $6 until, $7 file or api, $8 now
INSERT INTO billing.override_limits (org_id, kind, slot, terms, reason, until, managed_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (org_id, managed_by, kind, slot) DO UPDATE
SET terms = excluded.terms, reason = excluded.reason, until = excluded.until, created_at = excluded.created_at
