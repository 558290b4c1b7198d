-- Caps on spending, units carried over, and what both look at. Read by billing/store/spend_caps.py.

-- put --
-- $1 org, $2 operator or customer, $3 amount or null, $4 currency, $5 now
INSERT INTO billing.spend_caps (org_id, set_by, amount, currency, updated_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (org_id, set_by) DO UPDATE SET amount = excluded.amount, currency = excluded.currency, updated_at = excluded.updated_at

-- remove --
-- $1 org, $2 operator or customer
DELETE FROM billing.spend_caps WHERE org_id = $1 AND set_by = $2

-- of_orgs --
-- $1 orgs[]
SELECT org_id, set_by, amount, currency FROM billing.spend_caps WHERE org_id = ANY ($1::uuid[])

-- capped --
-- Organizations that have a cap, by their plan or their own, or that a cap holds back now. $1 after this one or null, $2 how many
SELECT o.id
FROM billing.organizations o
LEFT JOIN billing.subscriptions s ON s.org_id = o.id AND s.ended_at IS NULL
LEFT JOIN billing.plan_versions v ON v.plan = s.plan AND v.version = s.plan_version
WHERE o.deleted_at IS NULL AND ($1::uuid IS NULL OR o.id > $1)
    AND (v.spec ? 'spend_cap'
        OR EXISTS (SELECT FROM billing.spend_caps c WHERE c.org_id = o.id)
        OR EXISTS (SELECT FROM billing.quotas q WHERE q.org_id = o.id AND q.managed_by = 'cap'))
ORDER BY o.id
LIMIT $2

-- rolling --
-- Organizations whose plan carries units over, or that have some. $1 after this one or null, $2 how many
SELECT o.id
FROM billing.organizations o
LEFT JOIN billing.subscriptions s ON s.org_id = o.id AND s.ended_at IS NULL
LEFT JOIN billing.plan_versions v ON v.plan = s.plan AND v.version = s.plan_version
WHERE o.deleted_at IS NULL AND ($1::uuid IS NULL OR o.id > $1)
    AND (v.spec ? 'rollover' OR EXISTS (SELECT FROM billing.quotas q WHERE q.org_id = o.id AND q.managed_by = 'rollover'))
ORDER BY o.id
LIMIT $2

-- used --
-- $1 orgs[], $2 period starts[]
SELECT p.org_id, p.service, p.cumulative
FROM billing.usage_period p
JOIN unnest($1::uuid[], $2::timestamptz[]) AS w (org_id, period_start) USING (org_id, period_start)

-- overrides --
-- Of these organizations, the weaker first. $1 orgs[]
SELECT org_id, meter, limit_units, time_window, mode, per, on_store_failure, terms, reason, until, managed_by
FROM billing.quotas
WHERE org_id = ANY ($1::uuid[])
ORDER BY org_id, billing.override_rank(managed_by), id

-- carried --
-- $1 orgs[], $2 period starts[]
SELECT r.org_id, r.meter, r.base, r.carried
FROM billing.rollovers r
JOIN unnest($1::uuid[], $2::timestamptz[]) AS w (org_id, period_start) USING (org_id, period_start)

-- carry --
-- $1 orgs[], $2 meters[], $3 period starts[], $4 base units[], $5 carried[]
INSERT INTO billing.rollovers AS r (org_id, meter, period_start, base, carried)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[])
ON CONFLICT (org_id, meter, period_start) DO UPDATE SET base = excluded.base, carried = excluded.carried
WHERE (r.base, r.carried) <> (excluded.base, excluded.carried)

-- flushed_at --
-- Usage that was settled before then is in Postgres.
SELECT done_at FROM billing.job_state WHERE name = 'flush'
