-- Subscriptions. Read by billing/store/subscriptions.py.

-- insert --
-- $1 org, $2 plan, $3 version, $4 status, $5 anchor, $6 interval, $7 currency, $8 amount, $9 trial days, $10 now
INSERT INTO billing.subscriptions
    (org_id, plan, plan_version, status, anchor, billing_interval, currency, amount, trial_days, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- of_org --
-- $1 org
SELECT org_id, plan, plan_version, status, anchor, billing_interval, currency, amount, trial_days
FROM billing.subscriptions
WHERE org_id = $1 AND ended_at IS NULL

-- behind --
-- $1 plan, $2 version
SELECT org_id, plan, plan_version, status, anchor, billing_interval, currency, amount, trial_days, next_plan_version
FROM billing.subscriptions
WHERE plan = $1 AND plan_version < $2 AND ended_at IS NULL
ORDER BY org_id

-- move --
-- $1 orgs[], $2 versions[], $3 amounts[], $4 intervals[]
UPDATE billing.subscriptions s
SET plan_version = moved.version, amount = moved.amount, billing_interval = moved.interval,
    next_plan_version = NULL, next_version_at = NULL
FROM unnest($1::uuid[], $2::int[], $3::numeric[], $4::text[]) AS moved (org_id, version, amount, interval)
WHERE s.org_id = moved.org_id AND s.ended_at IS NULL

-- schedule --
-- $1 orgs[], $2 version, $3 when[]
UPDATE billing.subscriptions s SET next_plan_version = $2, next_version_at = waiting.at
FROM unnest($1::uuid[], $3::timestamptz[]) AS waiting (org_id, at)
WHERE s.org_id = waiting.org_id AND s.ended_at IS NULL

-- due --
-- $1 now, $2 how many
SELECT org_id, plan, plan_version, status, anchor, billing_interval, currency, amount, trial_days, next_plan_version
FROM billing.subscriptions
WHERE next_version_at <= $1 AND ended_at IS NULL
ORDER BY org_id
LIMIT $2

-- end --
-- $1 org, $2 status, $3 when
UPDATE billing.subscriptions
SET status = $2, canceled_at = $3, ended_at = $3, next_plan_version = NULL, next_version_at = NULL
WHERE org_id = $1 AND ended_at IS NULL
