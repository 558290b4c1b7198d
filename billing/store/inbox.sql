-- Events of Stripe. Read by billing/store/inbox.py.

-- add --
-- Returns the ids of those that were not there. $1 ids[], $2 types[], $3 objects[], $4 payloads[], $5 made at[], $6 now
INSERT INTO billing.webhook_events (event_id, type, object_id, payload, created_at, received_at)
SELECT event.id, event.type, event.object, event.payload::jsonb, event.created, $6
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) AS event (id, type, object, payload, created)
ON CONFLICT (event_id) DO NOTHING
RETURNING event_id

-- claim --
-- A claim is a lease. Of each object only the first that waits: those behind it follow it in order.
-- $1 now, $2 end of the lease, $3 how many, $4 this one only, or null
WITH due AS (
    SELECT e.event_id
    FROM billing.webhook_events e
    WHERE e.status = 'received'
        AND (e.next_attempt_at IS NULL OR e.next_attempt_at <= $1)
        AND ($4::text IS NULL OR e.event_id = $4)
        AND NOT EXISTS (
            SELECT FROM billing.webhook_events b WHERE b.status = 'received' AND b.object_id = e.object_id AND b.seq < e.seq
        )
    ORDER BY e.seq
    LIMIT $3
    FOR UPDATE OF e SKIP LOCKED
)
UPDATE billing.webhook_events e
SET attempts = e.attempts + 1, next_attempt_at = $2
FROM due
WHERE e.event_id = due.event_id
RETURNING e.*

-- finish --
-- $1 event, $2 the attempts that the claim counted, $3 status, $4 error, $5 next attempt, $6 now
UPDATE billing.webhook_events
SET status = $3, last_error = $4, next_attempt_at = $5,
    processed_at = CASE WHEN $3 = 'received' THEN processed_at ELSE $6::timestamptz END
WHERE event_id = $1 AND status = 'received' AND attempts = $2
RETURNING event_id

-- give_back --
-- Undo a claim that led to no attempt. $1 event, $2 the attempts that the claim counted, $3 next attempt, $4 why
UPDATE billing.webhook_events SET attempts = attempts - 1, next_attempt_at = $3, last_error = $4
WHERE event_id = $1 AND status = 'received' AND attempts = $2

-- find --
-- $1 event
SELECT * FROM billing.webhook_events WHERE event_id = $1

-- newest --
-- $1 how many, $2 of this status only, or null; $3 of those that came before this event, or null
SELECT * FROM billing.webhook_events
WHERE ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR seq < (SELECT seq FROM billing.webhook_events WHERE event_id = $3))
ORDER BY seq DESC
LIMIT $1

-- again --
-- $1 event
UPDATE billing.webhook_events SET status = 'received', attempts = 0, next_attempt_at = NULL, last_error = NULL
WHERE event_id = $1
RETURNING event_id

-- stands --
SELECT max(created_at) FROM billing.webhook_events

-- side --
SELECT stripe_mode, account FROM billing.installation
