-- Recompute what is derived from the ledger (aggregator/rollup.py). Running a block again changes nothing.

-- touched_days --
-- Days that got rows since the last run; a transaction that was under way then may have stored them up to an hour earlier.
SELECT DISTINCT ("timestamp" AT TIME ZONE 'UTC')::date AS day
FROM billing.usage_events
WHERE recorded_at >= coalesce((SELECT watermark FROM billing.job_state WHERE name = 'daily'), '-infinity') - interval '1 hour'
ORDER BY day

-- recompute_day --
-- $1 day. Every bucket is named so that the index by bucket and hour serves.
INSERT INTO billing.usage_daily AS d (date, org_id, service, total_quantity, event_count)
SELECT $1::date, org_id, service, sum(quantity)::bigint, sum(event_count)::bigint
FROM billing.usage_hourly
WHERE bucket = ANY (ARRAY(SELECT generate_series(0, 255)::smallint))
    AND hour >= ($1::date)::timestamp AT TIME ZONE 'UTC' AND hour < ($1::date + 1)::timestamp AT TIME ZONE 'UTC'
GROUP BY org_id, service
ORDER BY org_id, service
ON CONFLICT (org_id, service, date) DO UPDATE SET total_quantity = EXCLUDED.total_quantity, event_count = EXCLUDED.event_count

-- begin --
SELECT clock_timestamp()

-- set_watermark --
-- $1 when the run began, on this server's clock
INSERT INTO billing.job_state (name, watermark) VALUES ('daily', $1)
ON CONFLICT (name) DO UPDATE SET watermark = greatest(job_state.watermark, EXCLUDED.watermark)

-- ensure_partitions --
-- $1 today, $2 months ahead
SELECT billing.ensure_usage_partitions($1, $2)

-- upsert_routes --
-- $1 ids, $2 templates, $3 hosts
INSERT INTO billing.routes AS r (id, template, host)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])
ORDER BY 1
ON CONFLICT (id) DO UPDATE SET template = EXCLUDED.template, host = EXCLUDED.host, updated_at = now()
WHERE (r.template, r.host) IS DISTINCT FROM (EXCLUDED.template, EXCLUDED.host)

-- forget_tenants --
-- Names of days whose usage has all arrived; a batch that comes later still finds room for a thousand.
DELETE FROM billing.tenants WHERE day < (now() AT TIME ZONE 'UTC')::date - 7
