-- Subscriptions. Read by billing/store/subscriptions.py.

-- insert --
-- $1 id, $2 org, $3 plan, $4 version, $5 status, $6 anchor, $7 interval, $8 currency, $9 amount, $10 trial days, $11 now, $12 interval count,
-- $13 zone, $14 period start, $15 period end, $16 paid, $17 trial start, $18 trial end, $19 terms
INSERT INTO billing.subscriptions
    (id, org_id, plan, plan_version, status, anchor, billing_interval, currency, amount, trial_days, created_at, interval_count, zone,
     period_start, anchored_at, period_end, paid, trial_start, trial_end, terms)
VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15, $16, $17, $18, $19::jsonb)

-- of_org --
-- $1 org
SELECT * FROM billing.subscriptions WHERE org_id = $1 AND ended_at IS NULL

-- latest --
-- The live one, or the last that ended. $1 org
SELECT * FROM billing.subscriptions WHERE org_id = $1 ORDER BY ended_at DESC NULLS FIRST LIMIT 1

-- put --
-- $1 id, $2 plan, $3 version, $4 status, $5 anchor, $6 interval, $7 amount, $8 interval count, $9 zone, $10 period start, $11 period end,
-- $12 paid, $13 next anchor, $14 awaited plan, $15 awaited version, $16 when, $17 trial start, $18 trial end, $19 former plan,
-- $20 former version, $21 cancel at, $22 cancel reason, $23 canceled at, $24 paused at, $25 auto renew, $26 terms, $27 revision,
-- $28 ended at
UPDATE billing.subscriptions
SET plan = $2, plan_version = $3, status = $4,
    anchored_at = CASE WHEN anchor = $5 THEN anchored_at ELSE $10 END,
    anchor = $5, billing_interval = $6, amount = $7, interval_count = $8, zone = $9, period_start = $10, period_end = $11, paid = $12,
    next_anchor = $13, next_plan = $14, next_plan_version = $15, next_version_at = $16, trial_start = $17, trial_end = $18,
    former_plan = $19, former_plan_version = $20, cancel_at = $21, cancel_reason = $22, canceled_at = $23, paused_at = $24,
    auto_renew = $25, terms = $26::jsonb, revision = $27, ended_at = $28
WHERE id = $1::uuid AND ended_at IS NULL

-- behind --
-- Those that wait for another plan are left to it. $1 plan, $2 version
SELECT * FROM billing.subscriptions
WHERE plan = $1 AND plan_version < $2 AND ended_at IS NULL AND (next_plan IS NULL OR next_plan = plan)
ORDER BY org_id

-- move --
-- $1 orgs[], $2 versions[], $3 amounts[]
UPDATE billing.subscriptions s
SET plan_version = moved.version, amount = moved.amount, revision = s.revision + 1,
    next_plan = NULL, next_plan_version = NULL, next_version_at = NULL
FROM unnest($1::uuid[], $2::int[], $3::numeric[]) AS moved (org_id, version, amount)
WHERE s.org_id = moved.org_id AND s.ended_at IS NULL

-- schedule --
-- $1 orgs[], $2 version, $3 when[]
UPDATE billing.subscriptions s SET next_plan = s.plan, next_plan_version = $2, next_version_at = waiting.at
FROM unnest($1::uuid[], $3::timestamptz[]) AS waiting (org_id, at)
WHERE s.org_id = waiting.org_id AND s.ended_at IS NULL

-- due --
-- Those whose plan changed and whose renewal has come; a change to another plan is the renewal's own work. $1 now, $2 how many
SELECT * FROM billing.subscriptions
WHERE next_version_at <= $1 AND next_plan = plan AND ended_at IS NULL
ORDER BY org_id
LIMIT $2

-- end --
-- $1 org, $2 status, $3 when
UPDATE billing.subscriptions
SET status = $2, canceled_at = $3, ended_at = $3, next_plan = NULL, next_plan_version = NULL, next_version_at = NULL
WHERE org_id = $1 AND ended_at IS NULL

-- orgs_due --
-- Organizations for whose subscription the next thing has come. $1 now, $2 after this org, $3 how many, $4 states whose periods go on
SELECT org_id FROM billing.subscriptions
WHERE ended_at IS NULL AND org_id > $2::uuid
    AND (status = ANY ($4::text[]) AND period_end <= $1 OR status = 'trialing' AND trial_end <= $1 OR cancel_at <= $1)
ORDER BY org_id
LIMIT $3

-- end_usage_period --
-- Months are counted from another anchor from now on: the usage period under way ends here. Locked in order, as the flush does.
-- $1 org, $2 when
WITH running AS (
    SELECT org_id, service, period_start FROM billing.usage_period
    WHERE org_id = $1 AND period_start < $2 AND period_end > $2
    ORDER BY org_id, service, period_start
    FOR UPDATE
)
UPDATE billing.usage_period p SET period_end = $2
FROM running r
WHERE p.org_id = r.org_id AND p.service = r.service AND p.period_start = r.period_start

-- auto_downgrade --
SELECT auto_downgrade FROM billing.trial_settings

-- set_auto_downgrade --
-- $1 on or off
UPDATE billing.trial_settings SET auto_downgrade = $1 WHERE auto_downgrade <> $1
