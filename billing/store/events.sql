-- Usage that is born in Postgres, levels, and what the store's counters are told of them (billing/store/events.py).

-- periods --
-- $1 org
SELECT DISTINCT period_start, period_end FROM billing.usage_period
WHERE org_id = $1 AND period_end > period_start ORDER BY period_start

-- claim --
-- Take keys; those that another has already are left out. $1 org, $2 keys, $3 events, $4 fingerprints
INSERT INTO billing.event_keys (org_id, key, event_id, fingerprint)
SELECT $1::uuid, * FROM unnest($2::text[], $3::bigint[], $4::bytea[])
ORDER BY 2
ON CONFLICT DO NOTHING
RETURNING key

-- claimed --
-- $1 org, $2 keys
SELECT key, event_id, fingerprint FROM billing.event_keys WHERE org_id = $1 AND key = ANY ($2::text[])

-- ids --
-- $1 how many
SELECT nextval('billing.usage_events_id_seq') FROM generate_series(1, $1::int)

-- lock --
-- $1 buckets, in order
SELECT bucket FROM billing.bucket_state WHERE bucket = ANY ($1::smallint[]) ORDER BY bucket FOR UPDATE

-- facts --
-- What was used is held to no quota (billing.hold_quotas).
SELECT set_config('weighbridge.batch', 'on', true)

-- insert --
-- $1 ids, $2 timestamps, $3 period starts, $4 orgs, $5 services, $6 quantities, $7 sources, $8 metadata, $9 corrects, $10 levels
INSERT INTO billing.usage_events
    (id, "timestamp", period_start, org_id, service, quantity, route_id, method, key_id, source, metadata, corrects, level)
SELECT id, at, start, org, service, quantity, 0, '', 0, source, metadata::jsonb, corrects, level
FROM unnest(
    $1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::uuid[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::bigint[],
    $10::boolean[]
) AS r (id, at, start, org, service, quantity, source, metadata, corrects, level)

-- add_hours --
-- $1 orgs, $2 services, $3 hours, $4 period starts, $5 buckets, $6 quantities, $7 numbers of events
INSERT INTO billing.usage_hourly AS h
    (org_id, service, hour, period_start, route_id, method, key_id, dimensions, bucket, quantity, returned, event_count)
SELECT org, service, hour, start, 0, '', 0, '{}', bucket, quantity, 0, events
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::smallint[], $6::bigint[], $7::bigint[])
    AS r (org, service, hour, start, bucket, quantity, events)
ORDER BY 1, 2, 3, 4
ON CONFLICT (org_id, service, hour, period_start, route_id, method, key_id, dimensions) DO UPDATE SET
    quantity = h.quantity + EXCLUDED.quantity, event_count = h.event_count + EXCLUDED.event_count

-- add_periods --
-- $1 orgs, $2 services, $3 period starts, $4 period ends, $5 buckets, $6 quantities
INSERT INTO billing.usage_period AS p (org_id, service, period_start, period_end, bucket, cumulative)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::smallint[], $6::bigint[])
ORDER BY 1, 2, 3
ON CONFLICT (org_id, service, period_start) DO UPDATE SET
    cumulative = p.cumulative + EXCLUDED.cumulative, period_end = coalesce(p.period_end, EXCLUDED.period_end), updated_at = now()

-- open_period --
-- $1 org, $2 service, $3 period start, $4 period end, $5 bucket
INSERT INTO billing.usage_period (org_id, service, period_start, period_end, bucket, cumulative) VALUES ($1, $2, $3, $4, $5, 0)
ON CONFLICT (org_id, service, period_start) DO NOTHING

-- hold --
-- $1 org, $2 services, $3 parts, $4 instants, $5 events, $6 quantities
INSERT INTO billing.usage_levels (org_id, service, part, at, event_id, quantity)
SELECT $1::uuid, * FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[])

-- unhold --
-- What an event, and its corrections, said of a level. $1 org, $2 event
DELETE FROM billing.usage_levels l USING billing.usage_events e
WHERE e.org_id = $1 AND (e.id = $2 OR e.corrects = $2) AND e.level AND l.org_id = e.org_id AND l.service = e.service AND l.event_id = e.id

-- refresh_levels --
-- $1 org, $2 services, $3 bucket, $4 nothing that begins behind this holds yet
INSERT INTO billing.levels_current AS c (org_id, service, part, at, quantity, bucket)
SELECT DISTINCT ON (service, part) org_id, service, part, at, quantity, $3::smallint
FROM billing.usage_levels WHERE org_id = $1 AND service = ANY ($2::text[]) AND at <= $4
ORDER BY service, part, at DESC, event_id DESC
ON CONFLICT (org_id, service, part) DO UPDATE SET at = EXCLUDED.at, quantity = EXCLUDED.quantity

-- forget_levels --
-- Parts whose every level was voided. $1 org, $2 services
DELETE FROM billing.levels_current c
WHERE c.org_id = $1 AND c.service = ANY ($2::text[])
    AND NOT EXISTS (SELECT FROM billing.usage_levels l WHERE l.org_id = c.org_id AND l.service = c.service AND l.part = c.part)

-- levels --
-- $1 org
SELECT service, sum(quantity)::bigint AS quantity FROM billing.levels_current WHERE org_id = $1 GROUP BY service

-- average --
-- $1 org, $2 service, $3 now, $4 periods that ended before this stay as they are
UPDATE billing.usage_period p
SET cumulative = v.mean, updated_at = $3
FROM (
    SELECT u.period_start, (billing.level_over(u.org_id, u.service, u.period_start, least(u.period_end, greatest($3, u.period_start + interval '1 second')))).mean
    FROM billing.usage_period u WHERE u.org_id = $1 AND u.service = $2 AND u.period_end > $4 AND u.period_start <= $3
) v
WHERE p.org_id = $1 AND p.service = $2 AND p.period_start = v.period_start

-- due_levels --
-- Levels whose period turned or ended unseen, or whose mean is an hour old. $1 now, $2 behind this org, $3 at most so many, $4 and this service
SELECT c.org_id, c.service, max(p.period_end) AS last_end, min(p.period_start) FILTER (WHERE p.updated_at < p.period_end) AS since
FROM (SELECT DISTINCT org_id, service FROM billing.levels_current WHERE (org_id, service) > ($2, $4::text)) c
LEFT JOIN billing.usage_period p ON p.org_id = c.org_id AND p.service = c.service
GROUP BY c.org_id, c.service
HAVING max(p.period_end) IS NULL OR max(p.period_end) <= $1 OR bool_or(p.period_end <= $1 AND p.updated_at < p.period_end)
    OR max(p.updated_at) < $1::timestamptz - interval '1 hour'
ORDER BY c.org_id, c.service
LIMIT $3

-- next_move --
-- $1 bucket, which is locked
UPDATE billing.bucket_state SET moves = moves + 1 WHERE bucket = $1 RETURNING moves

-- leave_move --
-- $1 bucket, $2 seq, $3 org, $4 moves
INSERT INTO billing.counter_moves (bucket, seq, org_id, moves) VALUES ($1, $2, $3, $4::jsonb)

-- pending_buckets --
SELECT DISTINCT bucket FROM billing.counter_moves ORDER BY bucket

-- pending --
-- $1 bucket, $2 at most so many
SELECT seq, org_id, moves FROM billing.counter_moves WHERE bucket = $1 ORDER BY seq LIMIT $2

-- moved --
-- $1 bucket, $2 the last that the store has
DELETE FROM billing.counter_moves WHERE bucket = $1 AND seq <= $2

-- find --
-- $1 org, $2 event
SELECT e.*, r.template,
    e.quantity + (SELECT coalesce(sum(c.quantity), 0) FROM billing.usage_events c WHERE c.org_id = e.org_id AND c.service = e.service
        AND c."timestamp" = e."timestamp" AND c.corrects = e.id)::bigint AS net
FROM billing.usage_events e
LEFT JOIN billing.routes r ON r.id = e.route_id
WHERE e.org_id = $1 AND e.id = $2

-- page --
-- $1 org, $2 service, $3 from, $4 to, $5 after (instant), $6 after (id), $7 at most so many
SELECT e.*, r.template FROM billing.usage_events e
LEFT JOIN billing.routes r ON r.id = e.route_id
WHERE e.org_id = $1 AND ($2::text IS NULL OR e.service = $2)
    AND e."timestamp" >= coalesce($3, '-infinity'::timestamptz) AND e."timestamp" < coalesce($4, 'infinity'::timestamptz)
    AND ($5::timestamptz IS NULL OR (e."timestamp", e.id) < ($5, $6::bigint))
ORDER BY e."timestamp" DESC, e.id DESC LIMIT $7

-- stream --
-- In order of time; levels that were voided, and their voids, are left out. $1 org, $2 service, $3 from, $4 to
SELECT e.*, r.template FROM billing.usage_events e
LEFT JOIN billing.routes r ON r.id = e.route_id
WHERE ($1::uuid IS NULL OR e.org_id = $1) AND ($2::text IS NULL OR e.service = $2)
    AND e."timestamp" >= coalesce($3, '-infinity'::timestamptz) AND e."timestamp" < coalesce($4, 'infinity'::timestamptz)
    AND (NOT e.level OR EXISTS (
        SELECT FROM billing.usage_levels l WHERE l.org_id = e.org_id AND l.service = e.service AND l.event_id = e.id AND l.at = e."timestamp"))
ORDER BY e."timestamp", e.id
