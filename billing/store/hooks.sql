-- Events for others, who wants them, and how far they were told. Read by billing/store/hooks.py. Events are written by the triggers of
-- metering/store/migrations/0021_hooks.sql, but for what is found by looking.

-- insert --
-- $1 id, $2 org or null, $3 url, $4 types[], $5 description, $6 by whom, $7 now
INSERT INTO billing.hook_endpoints (id, org_id, url, types, description, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- of --
-- $1 org, or null for the installation's own
SELECT * FROM billing.hook_endpoints WHERE org_id IS NOT DISTINCT FROM $1::uuid ORDER BY created_at, id

-- find --
-- $1 org or null, $2 id
SELECT * FROM billing.hook_endpoints WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1::uuid

-- lock --
-- $1 org or null, $2 id
SELECT * FROM billing.hook_endpoints WHERE id = $2 AND org_id IS NOT DISTINCT FROM $1::uuid FOR UPDATE

-- save --
-- $1 id, $2 url, $3 types[], $4 description, $5 failing since, $6 disabled at, $7 disabled reason
UPDATE billing.hook_endpoints
SET url = $2, types = $3, description = $4, failing_since = $5, disabled_at = $6, disabled_reason = $7
WHERE id = $1

-- drop --
-- $1 id
DELETE FROM billing.hook_endpoints WHERE id = $1

-- hold --
-- Endpoints of one owner are added one after another. $1 org or null
SELECT pg_advisory_xact_lock(hashtextextended('hooks of ' || coalesce($1::uuid::text, 'all'), 0))

-- count --
-- $1 org or null
SELECT count(*) FROM billing.hook_endpoints WHERE org_id IS NOT DISTINCT FROM $1::uuid

-- end_secrets --
-- $1 endpoint, $2 when
UPDATE billing.hook_secrets SET expires_at = least(expires_at, $2) WHERE endpoint_id = $1

-- add_secret --
-- $1 endpoint, $2 secret, $3 now
INSERT INTO billing.hook_secrets (endpoint_id, secret, created_at) VALUES ($1, $2, $3)

-- note --
-- $1 org, $2 type, $3 identifier, $4 data. Nothing where it was told before.
INSERT INTO billing.hook_events (org_id, type, identifier, data) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (identifier) DO NOTHING
RETURNING id

-- send_to --
-- An event of this endpoint alone. $1 endpoint, $2 its org or null, $3 type, $4 data
WITH event AS (
    INSERT INTO billing.hook_events (org_id, type, data) VALUES ($2, $3, $4::jsonb) RETURNING *
), delivery AS (
    INSERT INTO billing.hook_deliveries (event_id, endpoint_id, org_id) SELECT id, $1, $2 FROM event
)
SELECT event.*, o.slug FROM event LEFT JOIN billing.organizations o ON o.id = event.org_id

-- events --
-- $1 org or null for everybody's, $2 type or null, $3 before this number or null, $4 how many
SELECT e.*, o.slug
FROM billing.hook_events e
LEFT JOIN billing.organizations o ON o.id = e.org_id
WHERE ($1::uuid IS NULL OR e.org_id = $1) AND ($2::text IS NULL OR e.type = $2) AND ($3::bigint IS NULL OR e.id < $3)
ORDER BY e.id DESC
LIMIT $4

-- forget --
-- $1 happened before
DELETE FROM billing.hook_events WHERE happened_at < $1 RETURNING id

-- deliveries --
-- $1 endpoint, $2 state or null, $3 before this number or null, $4 how many
SELECT d.id AS delivery_id, d.endpoint_id, d.state, d.attempts, d.next_attempt_at, d.tried_at, d.answer, d.error, e.*, o.slug
FROM billing.hook_deliveries d
JOIN billing.hook_events e ON e.id = d.event_id
LEFT JOIN billing.organizations o ON o.id = e.org_id
WHERE d.endpoint_id = $1 AND ($2::text IS NULL OR d.state = $2) AND ($3::bigint IS NULL OR d.id < $3)
ORDER BY d.id DESC
LIMIT $4

-- replay --
-- $1 endpoint, $2 its org or null, $3 message
INSERT INTO billing.hook_deliveries AS d (event_id, endpoint_id, org_id)
SELECT e.id, $1, $2 FROM billing.hook_events e WHERE e.message = $3 AND ($2::uuid IS NULL OR e.org_id = $2)
ON CONFLICT (event_id, endpoint_id) DO UPDATE SET state = 'waiting', attempts = 0, next_attempt_at = NULL, answer = NULL, error = NULL
RETURNING d.id

-- replay_since --
-- What waits already is left as it is. $1 endpoint, $2 its org or null, $3 its types[], $4 since
INSERT INTO billing.hook_deliveries AS d (event_id, endpoint_id, org_id)
SELECT e.id, $1, $2
FROM billing.hook_events e
WHERE e.happened_at >= $4 AND e.type <> 'hook.test' AND ($2::uuid IS NULL OR e.org_id = $2)
    AND $3::text[] && ARRAY['*', split_part(e.type, '.', 1) || '.*', e.type]
ORDER BY e.id
ON CONFLICT (event_id, endpoint_id) DO UPDATE SET state = 'waiting', attempts = 0, next_attempt_at = NULL, answer = NULL, error = NULL
    WHERE d.state = 'failed'
RETURNING d.id

-- endpoints_due --
-- $1 now
SELECT e.id
FROM (
    SELECT DISTINCT endpoint_id FROM billing.hook_deliveries
    WHERE state = 'waiting' AND (next_attempt_at IS NULL OR next_attempt_at <= $1)
) d
JOIN billing.hook_endpoints e ON e.id = d.endpoint_id AND e.disabled_at IS NULL
ORDER BY e.id

-- claim --
-- Counted as tried and kept from others until $3; what was never tried comes first. $1 endpoint, $2 now, $3 until
WITH claimed AS (
    UPDATE billing.hook_deliveries SET attempts = attempts + 1, next_attempt_at = $3
    WHERE id = (
        SELECT id FROM billing.hook_deliveries
        WHERE endpoint_id = $1 AND state = 'waiting' AND (next_attempt_at IS NULL OR next_attempt_at <= $2)
        ORDER BY next_attempt_at NULLS FIRST, id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, event_id, endpoint_id, attempts
)
SELECT c.id AS delivery_id, c.attempts, e.*, o.slug, h.url, h.types, h.description, h.created_by, h.created_at, h.failing_since,
    h.disabled_at, h.disabled_reason, h.id AS endpoint_id, h.org_id AS endpoint_org_id,
    ARRAY(
        SELECT s.secret FROM billing.hook_secrets s
        WHERE s.endpoint_id = h.id AND (s.expires_at IS NULL OR s.expires_at > $2)
        ORDER BY s.expires_at DESC NULLS FIRST, s.created_at DESC
    ) AS secrets
FROM claimed c
JOIN billing.hook_events e ON e.id = c.event_id
JOIN billing.hook_endpoints h ON h.id = c.endpoint_id AND h.disabled_at IS NULL
LEFT JOIN billing.organizations o ON o.id = e.org_id

-- finish --
-- $1 id, $2 attempt, $3 state, $4 next attempt, $5 now, $6 answer, $7 error
UPDATE billing.hook_deliveries SET state = $3, next_attempt_at = $4, tried_at = $5, answer = $6, error = $7
WHERE id = $1 AND attempts = $2 AND state = 'waiting'
RETURNING id

-- endpoint_works --
-- $1 endpoint
UPDATE billing.hook_endpoints SET failing_since = NULL WHERE id = $1 AND failing_since IS NOT NULL

-- endpoint_fails --
-- $1 endpoint, $2 now, $3 why it is disabled, or null
UPDATE billing.hook_endpoints
SET failing_since = coalesce(failing_since, $2), disabled_at = CASE WHEN $3::text IS NOT NULL THEN $2::timestamptz END,
    disabled_reason = $3::text
WHERE id = $1 AND disabled_at IS NULL AND (failing_since IS NULL OR $3::text IS NOT NULL)

-- listeners --
-- Whose events of a type anybody wants; null is everybody's. $1 type
SELECT DISTINCT org_id FROM billing.hook_endpoints
WHERE disabled_at IS NULL AND types && ARRAY['*', split_part($1, '.', 1) || '.*', $1]

-- using --
-- $1 written since, $2 now
SELECT DISTINCT org_id FROM billing.usage_period WHERE period_end > $2 AND updated_at >= $1 ORDER BY org_id
