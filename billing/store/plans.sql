-- Plans and their versions. Read by billing/store/plans.py.

-- get --
-- $1 name
SELECT p.version, p.managed_by, p.status, v.spec
FROM billing.plans p
JOIN billing.plan_versions v ON v.plan = p.name AND v.version = p.version
WHERE p.name = $1

-- lock_shared --
-- $1 name
SELECT name FROM billing.plans WHERE name = $1 FOR SHARE

-- lock_all --
SELECT name FROM billing.plans ORDER BY name FOR UPDATE

-- all --
SELECT p.version, p.managed_by, p.status, v.spec
FROM billing.plans p
JOIN billing.plan_versions v ON v.plan = p.name AND v.version = p.version
ORDER BY p.name

-- set_plan --
-- $1 name, $2 version, $3 managed by, $4 now
INSERT INTO billing.plans (name, version, managed_by, created_at, updated_at)
VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, updated_at = excluded.updated_at

-- add_version --
-- $1 name, $2 version, $3 spec, $4 managed by, $5 now
INSERT INTO billing.plan_versions (plan, version, spec, managed_by, created_at) VALUES ($1, $2, $3, $4, $5)

-- set_fallback --
-- $1 plan
INSERT INTO billing.fallback_plan (plan) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET plan = excluded.plan WHERE fallback_plan.plan <> excluded.plan

-- no_fallback --
DELETE FROM billing.fallback_plan

-- archive --
-- $1 name, $2 status, $3 now
UPDATE billing.plans SET status = $2, updated_at = $3 WHERE name = $1

-- manage --
-- $1 name, $2 managed by, $3 now
UPDATE billing.plans SET managed_by = $2, updated_at = $3 WHERE name = $1 AND managed_by <> $2

-- version --
-- $1 name, $2 version
SELECT spec FROM billing.plan_versions WHERE plan = $1 AND version = $2

-- one_at_a_time --
-- Two applies of the same new plan would each find none; this lets one go first.
SELECT pg_advisory_xact_lock(1702063989, 1)
