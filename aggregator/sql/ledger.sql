-- Take drained batches into the ledger (aggregator/ledger.py): all blocks of one flush run in one transaction.

-- lock_buckets --
-- $1 buckets. Locked in order, so that two aggregators never wait for each other in a ring.
SELECT bucket, epoch, generation FROM billing.bucket_state WHERE bucket = ANY ($1::smallint[]) ORDER BY bucket FOR UPDATE

-- make_room --
-- A connection keeps it; its rows end with the transaction.
CREATE TEMP TABLE IF NOT EXISTS flush_usage (
    "timestamp" timestamptz, period_start timestamptz, org_id uuid, service text, route_id bigint, method text, key_id bigint,
    dimensions jsonb, bucket smallint, quantity bigint, returned bigint
) ON COMMIT DELETE ROWS

-- name_tenants --
-- Remember who is new today, as far as the day has room for names. $1 the most names an organization has in a day
INSERT INTO billing.tenants (org_id, day, tenant)
SELECT org_id, day, tenant
FROM (
    SELECT
        f.*,
        row_number() OVER (PARTITION BY org_id, day ORDER BY tenant)
            + (SELECT count(*) FROM billing.tenants t WHERE t.org_id = f.org_id AND t.day = f.day) AS place
    FROM (
        SELECT DISTINCT org_id, ("timestamp" AT TIME ZONE 'UTC')::date AS day, dimensions ->> 'tenant' AS tenant
        FROM pg_temp.flush_usage
        WHERE dimensions ? 'tenant'
    ) f
    WHERE NOT EXISTS (SELECT FROM billing.tenants t WHERE t.org_id = f.org_id AND t.day = f.day AND t.tenant = f.tenant)
) new
WHERE place <= $1

-- fold_tenants --
-- Who came too late for a name of their own is one with all others. $1 their name
UPDATE pg_temp.flush_usage f SET dimensions = jsonb_set(f.dimensions, '{tenant}', to_jsonb($1::text))
WHERE f.dimensions ? 'tenant' AND NOT EXISTS (
    SELECT FROM billing.tenants t
    WHERE t.org_id = f.org_id AND t.day = (f."timestamp" AT TIME ZONE 'UTC')::date AND t.tenant = f.dimensions ->> 'tenant'
)

-- insert_events --
-- What was drained has happened, and is held to no quota (billing.hold_quotas).
WITH ours AS MATERIALIZED (SELECT set_config('weighbridge.batch', 'on', true))
INSERT INTO billing.usage_events
    ("timestamp", period_start, org_id, service, quantity, returned, route_id, method, key_id, dimensions)
SELECT "timestamp", period_start, org_id, service, quantity, returned, route_id, method, key_id, dimensions
FROM pg_temp.flush_usage, ours

-- upsert_hourly --
INSERT INTO billing.usage_hourly AS h
    (org_id, service, hour, period_start, route_id, method, key_id, dimensions, bucket, quantity, returned, event_count)
SELECT
    org_id, service, date_trunc('hour', "timestamp", 'UTC') AS hour, period_start, route_id, method, key_id, dimensions,
    min(bucket), sum(quantity)::bigint, sum(returned)::bigint, count(*)
FROM pg_temp.flush_usage
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
ON CONFLICT (org_id, service, hour, period_start, route_id, method, key_id, dimensions) DO UPDATE SET
    quantity = h.quantity + EXCLUDED.quantity,
    returned = h.returned + EXCLUDED.returned,
    event_count = h.event_count + EXCLUDED.event_count

-- upsert_traffic --
-- $1 orgs, $2 hours, $3 routes, $4 methods, $5-$12 the facts in the order of the columns
INSERT INTO billing.traffic_hourly AS t
SELECT
    org_id, hour, route_id, method, sum(f1)::bigint, sum(f2)::bigint, sum(f3)::bigint, sum(f4)::bigint, sum(f5)::bigint,
    sum(ms)::bigint, sum(bytes_in)::bigint, sum(bytes_out)::bigint
FROM unnest(
    $1::uuid[], $2::timestamptz[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::bigint[], $11::bigint[], $12::bigint[]
) AS u (org_id, hour, route_id, method, f1, f2, f3, f4, f5, ms, bytes_in, bytes_out)
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
ON CONFLICT (org_id, hour, route_id, method) DO UPDATE SET
    status_1xx = t.status_1xx + EXCLUDED.status_1xx,
    status_2xx = t.status_2xx + EXCLUDED.status_2xx,
    status_3xx = t.status_3xx + EXCLUDED.status_3xx,
    status_4xx = t.status_4xx + EXCLUDED.status_4xx,
    status_5xx = t.status_5xx + EXCLUDED.status_5xx,
    duration_ms = t.duration_ms + EXCLUDED.duration_ms,
    bytes_in = t.bytes_in + EXCLUDED.bytes_in,
    bytes_out = t.bytes_out + EXCLUDED.bytes_out

-- upsert_period --
INSERT INTO billing.usage_period AS p (org_id, service, period_start, bucket, cumulative)
SELECT org_id, service, period_start, min(bucket), sum(quantity)::bigint
FROM pg_temp.flush_usage
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
ON CONFLICT (org_id, service, period_start) DO UPDATE SET cumulative = p.cumulative + EXCLUDED.cumulative, updated_at = now()

-- periods_without_end --
-- Periods that this batch began, each with the anchor of its organization's subscription, if there is one, and since when it stands.
SELECT DISTINCT p.org_id, p.period_start, s.anchor, s.anchored_at
FROM pg_temp.flush_usage f
JOIN billing.usage_period p USING (org_id, service, period_start)
LEFT JOIN billing.subscriptions s ON s.org_id = p.org_id AND s.ended_at IS NULL
WHERE p.period_end IS NULL

-- set_period_end --
-- $1 orgs, $2 period starts, $3 period ends
UPDATE billing.usage_period p SET period_end = v.period_end
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS v (org_id, period_start, period_end)
WHERE p.org_id = v.org_id AND p.period_start = v.period_start AND p.period_end IS NULL

-- quarantine --
-- $1 buckets, $2 epochs, $3 generations, $4 fields, $5 values, $6 reasons
INSERT INTO billing.usage_quarantine (bucket, epoch, generation, field, value, reason)
SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])

-- upsert_marks --
-- $1 buckets, $2 workers, $3 seqs. A mark never goes back.
INSERT INTO billing.worker_marks AS w (bucket, worker, seq)
SELECT * FROM unnest($1::smallint[], $2::text[], $3::bigint[])
ORDER BY 1, 2
ON CONFLICT (bucket, worker) DO UPDATE SET seq = EXCLUDED.seq, updated_at = now() WHERE w.seq < EXCLUDED.seq

-- advance --
-- $1 buckets, $2 generations
UPDATE billing.bucket_state s SET generation = v.generation
FROM unnest($1::smallint[], $2::bigint[]) AS v (bucket, generation)
WHERE s.bucket = v.bucket

-- marks_of --
-- $1 buckets: what Postgres has of each worker there
SELECT bucket, worker, seq FROM billing.worker_marks WHERE bucket = ANY ($1::smallint[])

-- fence --
-- $1 buckets, $2 the epochs they were seen under: raise each that still stands, so that nothing drained before it commits
UPDATE billing.bucket_state s SET epoch = s.epoch + 1
FROM unnest($1::smallint[], $2::bigint[]) AS v (bucket, epoch)
WHERE s.bucket = v.bucket AND s.epoch = v.epoch
