-- Files of usage (billing/store/imports.py).

-- pieces --
-- $1 org, $2 where they begin
SELECT lines, after FROM billing.import_pieces WHERE org_id = $1 AND before = $2 ORDER BY lines DESC

-- begin --
-- $1 org, $2 before, $3 lines, $4 after, $5 rejected
INSERT INTO billing.import_pieces (org_id, before, lines, after, accepted, rejected) VALUES ($1, $2, $3, $4, $3::int - $5::int, $5)
ON CONFLICT DO NOTHING RETURNING lines

-- make_room --
-- A connection keeps it; its rows end with the transaction. (No rows are copied into a table with row-level security.)
CREATE TEMP TABLE IF NOT EXISTS import_rows (
    at_ms bigint, start_ms bigint, org_id uuid, service text, quantity bigint, metadata jsonb
) ON COMMIT DELETE ROWS

-- facts --
-- What was used is held to no quota (billing.hold_quotas).
SELECT set_config('weighbridge.batch', 'on', true)

-- take --
INSERT INTO billing.usage_events
    ("timestamp", period_start, org_id, service, quantity, route_id, method, key_id, source, metadata)
SELECT to_timestamp(at_ms / 1000.0), to_timestamp(start_ms / 1000.0), org_id, service, quantity, 0, '', 0, 'import', metadata
FROM pg_temp.import_rows
