-- What Postgres says, for `weighbridge reconcile`. All blocks of one look run in one snapshot. Nothing is written.

-- states --
SELECT bucket, epoch, generation FROM billing.bucket_state

-- marks --
SELECT bucket, worker, seq FROM billing.worker_marks

-- periods --
-- $1 no period that ended before this, $2 only these orgs (null: all)
SELECT org_id, service, period_start, period_end, cumulative, reported
FROM billing.usage_period
WHERE (period_end IS NULL OR period_end > $1) AND ($2::uuid[] IS NULL OR org_id = ANY ($2))

-- events --
-- $1 the earliest start of a period that is looked at, $2 orgs
SELECT org_id, service, period_start, sum(quantity)::bigint AS quantity, sum(returned)::bigint AS returned
FROM billing.usage_events
WHERE "timestamp" >= $1::timestamptz - interval '1 minute' AND period_start >= $1 AND ($2::uuid[] IS NULL OR org_id = ANY ($2))
GROUP BY 1, 2, 3

-- hours --
-- $1 the earliest start of a period that is looked at, $2 orgs
SELECT org_id, service, period_start, sum(quantity)::bigint AS quantity, sum(returned)::bigint AS returned
FROM billing.usage_hourly
WHERE hour >= $1::timestamptz - interval '1 hour' AND period_start >= $1 AND ($2::uuid[] IS NULL OR org_id = ANY ($2))
GROUP BY 1, 2, 3

-- handed_over --
-- Outbox rows by the period they report. $1 the earliest start of a period, $2 orgs
SELECT
    org_id, payload ->> 'meter' AS service, (payload ->> 'period_start')::timestamptz AS period_start,
    sum((payload ->> 'value')::bigint)::bigint AS units
FROM billing.outbox
WHERE kind = 'meter_event' AND payload ? 'period_start' AND (payload ->> 'period_start')::timestamptz >= $1
    AND ($2::uuid[] IS NULL OR org_id = ANY ($2))
GROUP BY 1, 2, 3

-- told --
-- Outbox rows by what became of them, and who that is at Stripe. $1 no event from before this, $2 nor from then on (Unix seconds), $3 orgs
SELECT
    o.org_id, o.payload ->> 'meter' AS service, c.stripe_id AS customer, m.stripe_id AS meter,
    coalesce(sum((o.payload ->> 'value')::bigint) FILTER (WHERE o.state = 'delivered'), 0)::bigint AS delivered,
    coalesce(sum((o.payload ->> 'value')::bigint) FILTER (WHERE o.state = 'pending'), 0)::bigint AS pending,
    coalesce(sum((o.payload ->> 'value')::bigint) FILTER (WHERE o.state = 'pending' AND o.first_attempt_at IS NOT NULL), 0)::bigint AS tried,
    coalesce(sum((o.payload ->> 'value')::bigint) FILTER (WHERE o.state = 'dead'), 0)::bigint AS dead,
    coalesce(sum((o.payload ->> 'value')::bigint) FILTER (WHERE o.state = 'unknown'), 0)::bigint AS unknown
FROM billing.outbox o
LEFT JOIN billing.stripe_objects c ON c.kind = 'customer' AND c.key = o.org_id::text
LEFT JOIN billing.stripe_objects m ON m.kind = 'meter' AND m.key = o.payload ->> 'meter'
WHERE o.kind = 'meter_event' AND ($3::uuid[] IS NULL OR o.org_id = ANY ($3))
    AND o.created_at > (SELECT coalesce(max(at), '-infinity') FROM billing.cutovers) -- the side before knows the others
    AND (o.payload ->> 'timestamp')::bigint >= $1 AND (o.payload ->> 'timestamp')::bigint < $2
GROUP BY 1, 2, 3, 4

-- on_the_way --
SELECT DISTINCT org_id FROM billing.counter_moves

-- quarantined --
SELECT count(*) FROM billing.usage_quarantine

-- names --
-- $1 orgs
SELECT id, slug FROM billing.organizations WHERE id = ANY ($1::uuid[])

-- calls --
-- What was admitted, by minute, route, method, meter and organization. $1 from, $2 until, $3 orgs (null: all)
SELECT "timestamp" AS minute, route_id, method, service, org_id, sum(quantity + returned)::bigint AS units
FROM billing.usage_events
WHERE "timestamp" >= $1 AND "timestamp" < $2 AND ($3::uuid[] IS NULL OR org_id = ANY ($3)) AND source = 'gateway'
GROUP BY 1, 2, 3, 4, 5
