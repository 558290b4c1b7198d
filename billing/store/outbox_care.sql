-- Outbox rows that need somebody's care. Read by billing/stripe/outbox_care.py.

-- same_minute --
-- What was to be told of one meter of one organization within one minute. $1 org, $2 meter, $3 first second, $4 second after the last
SELECT id, state, (payload ->> 'value')::bigint AS value
FROM billing.outbox
WHERE kind = 'meter_event' AND org_id = $1::uuid AND payload ->> 'meter' = $2
    AND (payload ->> 'timestamp')::bigint >= $3 AND (payload ->> 'timestamp')::bigint < $4

-- again --
-- Only from the state that was looked at. $1 id, $2 that state, $3 first_attempt_at, $4 attempts
UPDATE billing.outbox SET state = 'pending', first_attempt_at = $3, next_attempt_at = NULL, attempts = $4
WHERE id = $1 AND state = $2
RETURNING id

-- was_delivered --
-- $1 id, $2 now
UPDATE billing.outbox SET state = 'delivered', delivered_at = $2, last_error = NULL WHERE id = $1 AND state = 'unknown' RETURNING id
