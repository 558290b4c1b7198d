-- Cut what Stripe must hear of overages (aggregator/overage.py).

-- candidates --
-- Periods whose overage may cost something: a live subscription to a plan version with a price on the meter.
-- $1 subscription states that entitle to the plan, $2 no period that ended before this, $3 nor one that ends after this,
-- $4 only these orgs (null: all), $5 $6 $7 after this org, service, period start; $8 at most so many
SELECT
    p.org_id, p.service, p.period_start, p.period_end, p.cumulative, p.reported, p.seq, p.priced, p.included, p.native,
    s.plan, s.plan_version, s.currency
FROM billing.usage_period p
JOIN billing.organizations o ON o.id = p.org_id AND o.deleted_at IS NULL
JOIN billing.subscriptions s ON s.org_id = p.org_id AND s.ended_at IS NULL
JOIN billing.plan_versions v ON v.plan = s.plan AND v.version = s.plan_version
WHERE s.status = ANY ($1::text[]) AND v.spec -> 'prices' ? p.service
    AND p.period_end > $2 AND p.period_end <= $3
    AND ($4::uuid[] IS NULL OR p.org_id = ANY ($4))
    AND (p.org_id, p.service, p.period_start) > ($5::uuid, $6::text, $7::timestamptz)
ORDER BY p.org_id, p.service, p.period_start
LIMIT $8

-- plan_versions --
-- $1 plans, $2 versions
SELECT v.plan, v.version, v.spec
FROM billing.plan_versions v
JOIN unnest($1::text[], $2::integer[]) AS w (plan, version) USING (plan, version)

-- overrides --
-- $1 orgs. The weaker first, so that what was set by hand stands above it. A cap that was reached ends use, and changes no price.
SELECT org_id, meter, limit_units, mode, until
FROM billing.quotas
WHERE org_id = ANY ($1::uuid[]) AND time_window = 'period' AND per = 'org' AND managed_by <> 'cap'
ORDER BY org_id, billing.override_rank(managed_by), id

-- lock_periods --
-- $1 orgs, $2 services, $3 period starts. Locked in order, as the flush does.
SELECT p.org_id, p.service, p.period_start, p.period_end, p.cumulative, p.reported, p.seq, p.priced, p.included
FROM billing.usage_period p
JOIN unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS w (org_id, service, period_start) USING (org_id, service, period_start)
ORDER BY p.org_id, p.service, p.period_start
FOR UPDATE OF p

-- insert_outbox --
-- $1 orgs, $2 customer keys, $3 identifiers, $4 payloads, $5 now
INSERT INTO billing.outbox (kind, org_id, customer_key, identifier, payload, created_at)
SELECT 'meter_event', org_id, customer_key, identifier, payload, $5
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) WITH ORDINALITY AS u (org_id, customer_key, identifier, payload, i)
ORDER BY i

-- remember_cut --
-- $1 orgs, $2 services, $3 period starts, $4 reported, $5 seqs, $6 priced, $7 included, $8 native
UPDATE billing.usage_period p
SET reported = v.reported, seq = v.seq, priced = v.priced, included = v.included, native = v.native
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::boolean[], $7::bigint[], $8::boolean[])
    AS v (org_id, service, period_start, reported, seq, priced, included, native)
WHERE p.org_id = v.org_id AND p.service = v.service AND p.period_start = v.period_start

-- remember_unpriced --
-- A running period that nobody charges for stays free of charge, whatever plan is bought after it has ended.
-- $1 subscription states that entitle to the plan, $2 now
UPDATE billing.usage_period p SET priced = false
WHERE p.priced IS NULL AND p.period_end > $2 AND NOT EXISTS (
    SELECT FROM billing.subscriptions s
    JOIN billing.plan_versions v ON v.plan = s.plan AND v.version = s.plan_version
    WHERE s.org_id = p.org_id AND s.ended_at IS NULL AND s.status = ANY ($1::text[]) AND v.spec -> 'prices' ? p.service
)
