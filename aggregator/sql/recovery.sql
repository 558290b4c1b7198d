-- Give a lost bucket of the store back what Postgres knows (aggregator/recovery.py).

-- states --
SELECT bucket, epoch, generation FROM billing.bucket_state ORDER BY bucket

-- raise_epochs --
-- $1 buckets, $2 the highest epoch the store shows for each (0: none). Returns the epochs that now stand.
UPDATE billing.bucket_state s SET epoch = greatest(s.epoch, v.seen) + 1
FROM unnest($1::smallint[], $2::bigint[]) AS v (bucket, seen)
WHERE s.bucket = v.bucket
RETURNING s.bucket, s.epoch, s.generation

-- any_worker --
SELECT EXISTS (SELECT FROM billing.worker_marks)

-- marks --
-- $1 buckets
SELECT bucket, worker, seq FROM billing.worker_marks WHERE bucket = ANY ($1::smallint[])

-- moves --
-- $1 buckets
SELECT bucket, moves FROM billing.bucket_state WHERE bucket = ANY ($1::smallint[]) AND moves > 0

-- levels --
-- What is held now, of the organizations of these buckets, with the anchor of their periods. $1 buckets
SELECT c.org_id, c.service, sum(c.quantity)::bigint AS quantity, coalesce(s.anchor, o.created_at) AS anchor
FROM billing.levels_current c
JOIN billing.organizations o ON o.id = c.org_id
LEFT JOIN LATERAL (
    SELECT b.anchor FROM billing.subscriptions b WHERE b.org_id = c.org_id ORDER BY b.ended_at DESC NULLS FIRST LIMIT 1
) s ON true
WHERE c.bucket = ANY ($1::smallint[])
GROUP BY c.org_id, c.service, 4

-- window_sums --
-- What hour, day and calendar month counters must say: those whose window holds now or is yet to come (clocks differ).
-- $1 buckets, $2 this hour, $3 today, $4 this month. A null route or key: over all of them.
SELECT h.org_id, h.service, h.route_id, h.key_id, w.kind, w.start, sum(h.quantity)::bigint AS quantity
FROM billing.usage_hourly h
CROSS JOIN LATERAL (VALUES
    ('hour', h.hour),
    ('day', date_trunc('day', h.hour, 'UTC')),
    ('month', date_trunc('month', h.hour, 'UTC'))
) AS w (kind, start)
WHERE h.bucket = ANY ($1::smallint[]) AND h.hour >= $4
    AND w.start >= CASE w.kind WHEN 'hour' THEN $2::timestamptz WHEN 'day' THEN $3::timestamptz ELSE $4::timestamptz END
GROUP BY GROUPING SETS (
    (h.org_id, h.service, w.kind, w.start), (h.org_id, h.service, w.kind, w.start, h.route_id),
    (h.org_id, h.service, w.kind, w.start, h.key_id), (h.org_id, h.service, w.kind, w.start, h.route_id, h.key_id)
)

-- period_sums --
-- What period counters must say, for periods that have not ended.
-- $1 buckets, $2 now
SELECT
    h.org_id, h.service, h.route_id, h.key_id, p.period_start AS start, p.period_end AS until, sum(h.quantity)::bigint AS quantity
FROM billing.usage_period p
JOIN billing.usage_hourly h USING (org_id, service, period_start)
WHERE p.bucket = ANY ($1::smallint[]) AND p.period_end > $2
GROUP BY GROUPING SETS (
    (h.org_id, h.service, p.period_start, p.period_end), (h.org_id, h.service, p.period_start, p.period_end, h.route_id),
    (h.org_id, h.service, p.period_start, p.period_end, h.key_id), (h.org_id, h.service, p.period_start, p.period_end, h.route_id, h.key_id)
)

-- tenant_window_sums --
-- As window_sums, for each tenant that calls named, and for each on each route.
-- $1 buckets, $2 this hour, $3 today, $4 this month
SELECT
    h.org_id, h.service, h.route_id, h.dimensions ->> 'tenant' AS tenant, w.kind, w.start, sum(h.quantity)::bigint AS quantity
FROM billing.usage_hourly h
CROSS JOIN LATERAL (VALUES
    ('hour', h.hour),
    ('day', date_trunc('day', h.hour, 'UTC')),
    ('month', date_trunc('month', h.hour, 'UTC'))
) AS w (kind, start)
WHERE h.dimensions ? 'tenant' AND h.bucket = ANY ($1::smallint[]) AND h.hour >= $4
    AND w.start >= CASE w.kind WHEN 'hour' THEN $2::timestamptz WHEN 'day' THEN $3::timestamptz ELSE $4::timestamptz END
GROUP BY GROUPING SETS ((h.org_id, h.service, tenant, w.kind, w.start), (h.org_id, h.service, tenant, w.kind, w.start, h.route_id))

-- tenant_period_sums --
-- As period_sums, likewise. $1 buckets, $2 now
SELECT
    h.org_id, h.service, h.route_id, h.dimensions ->> 'tenant' AS tenant, p.period_start AS start, p.period_end AS until,
    sum(h.quantity)::bigint AS quantity
FROM billing.usage_period p
JOIN billing.usage_hourly h USING (org_id, service, period_start)
WHERE h.dimensions ? 'tenant' AND p.bucket = ANY ($1::smallint[]) AND p.period_end > $2
GROUP BY GROUPING SETS (
    (h.org_id, h.service, tenant, p.period_start, p.period_end), (h.org_id, h.service, tenant, p.period_start, p.period_end, h.route_id)
)
