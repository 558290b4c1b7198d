-- How far usage was billed here, by which terms; what stands on every invoice (billing/store/invoicing.py).

-- settings --
SELECT s.*, c.prefix FROM billing.invoice_settings s, billing.invoice_counters c WHERE c.name = 'invoice'

-- logo --
SELECT logo FROM billing.invoice_settings

-- put_settings --
-- $1 company_name, $2 company_address, $3 company_email, $4 company_tax_id, $5 footer, $6 due_days, $7 logo, $8 logo_url, $9 now
UPDATE billing.invoice_settings SET
    company_name = $1, company_address = $2, company_email = $3, company_tax_id = $4, footer = $5, due_days = $6, logo = $7, logo_url = $8,
    updated_at = $9

-- put_prefix --
-- $1 prefix
UPDATE billing.invoice_counters SET prefix = $1 WHERE name = 'invoice' AND prefix <> $1

-- due --
-- Organizations whose time has come, those with a subscription that nobody has looked at, and those with a new price to bill.
-- $1 now, $2 behind this organization (null: from the first), $3 at most so many
SELECT org_id FROM (
    SELECT org_id FROM billing.invoicing WHERE next_at <= $1
    UNION
    SELECT s.org_id FROM billing.subscriptions s
    WHERE s.ended_at IS NULL AND NOT EXISTS (SELECT FROM billing.invoicing i WHERE i.org_id = s.org_id)
    UNION
    SELECT org_id FROM billing.invoice_items WHERE invoice_id IS NULL AND kind = 'base'
) AS found
WHERE $2::uuid IS NULL OR org_id > $2
ORDER BY org_id
LIMIT $3

-- cursor --
-- $1 org_id
SELECT * FROM billing.invoicing WHERE org_id = $1::uuid

-- put_cursor --
-- $1 org_id, $2 since, $3 billed_until, $4 next_at
INSERT INTO billing.invoicing (org_id, since, billed_until, next_at) VALUES ($1::uuid, $2, $3, $4)
ON CONFLICT (org_id) DO UPDATE SET billed_until = EXCLUDED.billed_until, next_at = EXCLUDED.next_at

-- subscribed_at --
-- $1 org_id
SELECT created_at FROM billing.subscriptions WHERE org_id = $1::uuid ORDER BY ended_at DESC NULLS FIRST LIMIT 1

-- flushed_at --
SELECT done_at FROM billing.job_state WHERE name = 'flush'

-- periods --
-- $1 org_id, $2 since, $3 until
SELECT period_start, period_end, service, cumulative FROM billing.usage_period
WHERE org_id = $1::uuid AND period_start >= $2 AND period_end <= $3
ORDER BY period_start, service

-- rated --
-- $1 org_id, $2 period_start
SELECT * FROM billing.rated_periods WHERE org_id = $1::uuid AND period_start = $2

-- lock_rated --
-- $1 org_id, $2 period_start
SELECT * FROM billing.rated_periods WHERE org_id = $1::uuid AND period_start = $2 FOR UPDATE

-- keep_rated --
-- $1 org_id, $2 period_start, $3 period_end, $4 currency, $5 terms, $6 used, $7 amounts, $8 revision, $9 rated_at
INSERT INTO billing.rated_periods (org_id, period_start, period_end, currency, terms, used, amounts, revision, rated_at)
VALUES ($1::uuid, $2, $3, $4, $5::jsonb, $6::jsonb, $7::jsonb, $8, $9)
ON CONFLICT (org_id, period_start) DO UPDATE SET
    used = EXCLUDED.used, amounts = EXCLUDED.amounts, revision = EXCLUDED.revision, rated_at = EXCLUDED.rated_at

-- changed --
-- Periods whose usage is not what was billed. $1 at most so many
SELECT DISTINCT r.org_id, r.period_start
FROM billing.rated_periods r
JOIN billing.usage_period u ON u.org_id = r.org_id AND u.period_start = r.period_start
WHERE u.cumulative <> coalesce((r.used ->> u.service)::bigint, 0)
ORDER BY r.org_id, r.period_start
LIMIT $1

-- keep_terms --
-- $1 org_id, $2 until_at, $3 terms
INSERT INTO billing.terms_kept (org_id, until_at, terms) VALUES ($1::uuid, $2, $3::jsonb) ON CONFLICT (org_id, until_at) DO NOTHING

-- terms_at --
-- $1 org_id, $2 instant
SELECT terms FROM billing.terms_kept WHERE org_id = $1::uuid AND until_at >= $2 ORDER BY until_at LIMIT 1

-- terms_within --
-- $1 org_id, $2 after, $3 before
SELECT terms FROM billing.terms_kept WHERE org_id = $1::uuid AND until_at > $2 AND until_at < $3 ORDER BY until_at DESC

-- hours --
-- $1 org_id, $2 service, $3 period_start
SELECT hour, sum(quantity)::bigint AS quantity, sum(event_count)::bigint AS events FROM billing.usage_hourly
WHERE org_id = $1::uuid AND service = $2 AND period_start = $3
GROUP BY hour ORDER BY hour
