-- What the process itself needs (aggregator/wiring.py).

-- has_schema --
SELECT to_regclass('billing.schema_migrations') IS NOT NULL

-- newest_migration --
SELECT coalesce(max(number), 0) FROM billing.schema_migrations

-- flush_done --
-- $1 when the flush began: all that was settled before is in Postgres
INSERT INTO billing.job_state (name, done_at) VALUES ('flush', $1)
ON CONFLICT (name) DO UPDATE SET done_at = greatest(job_state.done_at, EXCLUDED.done_at)

-- flush_done_at --
SELECT done_at FROM billing.job_state WHERE name = 'flush'

-- outbox --
SELECT state, count(*) AS rows, min(created_at) AS oldest FROM billing.outbox WHERE state <> 'delivered' GROUP BY state

-- hooks --
SELECT count(*) AS rows, min(e.happened_at) AS oldest
FROM billing.hook_deliveries d
JOIN billing.hook_endpoints h ON h.id = d.endpoint_id AND h.disabled_at IS NULL
JOIN billing.hook_events e ON e.id = d.event_id
WHERE d.state = 'waiting'

-- mails --
-- $1 now
SELECT count(*) AS rows, min(due_at) AS oldest FROM billing.mails WHERE state = 'waiting' AND due_at <= $1
