-- Usage that is born here: recorded, imported, voided, corrected; levels; and how the counters of the store hear of it.

-- `source`: gateway, record, import, void, correction. `corrects` is the event that a void or a correction is about. `level`: `quantity` is
-- not added up, it is what has been held since (kind: level in meters.yaml).
ALTER TABLE billing.usage_events
    ADD COLUMN source text NOT NULL DEFAULT 'gateway',
    ADD COLUMN metadata jsonb,
    ADD COLUMN corrects bigint,
    ADD COLUMN level boolean NOT NULL DEFAULT false;

-- An event that was sent twice under one key happened once. Voids have keys too: an event is voided once.
CREATE TABLE billing.event_keys (
    org_id uuid NOT NULL,
    key text NOT NULL,
    event_id bigint NOT NULL,
    fingerprint bytea NOT NULL, -- of what was sent: another event under the same key is refused
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, key)
);
SELECT billing.hold_rows('billing.event_keys');

-- What rows born here move in the store, in the order of their transactions: seq of a bucket is counted in bucket_state.moves, under the
-- lock on that row. The store takes each once, in order (metering/store/redis/lua/move.lua); then the row goes. Recovery sets the counters
-- from the ledger and the store's mark to bucket_state.moves, both of one snapshot.
ALTER TABLE billing.bucket_state ADD COLUMN moves bigint NOT NULL DEFAULT 0;
CREATE TABLE billing.counter_moves (
    bucket smallint NOT NULL,
    seq bigint NOT NULL,
    org_id uuid NOT NULL,
    moves jsonb NOT NULL, -- {"sums": [[service, hour, period start, period end, units]], "levels": [[service, total, [[start, end]]]]}, ms
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bucket, seq)
);
SELECT billing.hold_rows('billing.counter_moves');

-- Levels over time: from `at` on, `quantity` base units are held in this part of the whole (postgres, backups; empty: it has no parts).
-- Of two at one instant the later written counts. Voided levels are taken out: here stands what is true, in usage_events what was said.
CREATE TABLE billing.usage_levels (
    org_id uuid NOT NULL,
    service text NOT NULL,
    part text NOT NULL,
    at timestamptz NOT NULL,
    event_id bigint NOT NULL,
    quantity bigint NOT NULL CHECK (quantity >= 0),
    PRIMARY KEY (org_id, service, part, at, event_id)
);
SELECT billing.hold_rows('billing.usage_levels');

-- What each part holds now: the last row of usage_levels.
CREATE TABLE billing.levels_current (
    org_id uuid NOT NULL,
    service text NOT NULL,
    part text NOT NULL,
    at timestamptz NOT NULL,
    quantity bigint NOT NULL,
    bucket smallint NOT NULL,
    PRIMARY KEY (org_id, service, part)
);
CREATE INDEX levels_current_bucket ON billing.levels_current (bucket);
SELECT billing.hold_rows('billing.levels_current');

-- The mean of a level over [from_at, to_at), weighted by how long each quantity was held, in whole base units, half up; and the most that was
-- held at once. 0 before the first.
CREATE FUNCTION billing.level_over(org uuid, meter text, from_at timestamptz, to_at timestamptz, OUT mean bigint, OUT peak bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH held AS (
        SELECT c.part, from_at AS at, -1::bigint AS event_id, b.quantity
        FROM billing.levels_current c
        CROSS JOIN LATERAL (
            SELECT l.quantity FROM billing.usage_levels l
            WHERE l.org_id = org AND l.service = meter AND l.part = c.part AND l.at <= from_at
            ORDER BY l.at DESC, l.event_id DESC LIMIT 1
        ) b
        WHERE c.org_id = org AND c.service = meter
        UNION ALL
        SELECT part, at, event_id, quantity FROM billing.usage_levels
        WHERE org_id = org AND service = meter AND at > from_at AND at < to_at
    ),
    steps AS (
        SELECT part, at, event_id, quantity,
            coalesce(lead(at) OVER w, to_at) AS until, quantity - coalesce(lag(quantity) OVER w, 0) AS change
        FROM held WINDOW w AS (PARTITION BY part ORDER BY at, event_id)
    ),
    totals AS (
        SELECT sum(change) OVER (ORDER BY at RANGE UNBOUNDED PRECEDING) AS total FROM steps
    )
    SELECT
        coalesce((
            SELECT round(sum(quantity::numeric * extract(epoch FROM until - at)) / extract(epoch FROM to_at - from_at)) FROM steps
        ), 0)::bigint,
        coalesce((SELECT max(total) FROM totals), 0)::bigint
$$;

-- Imports, for the rows of a file that bring no key of their own: what was read of a file, a piece at a time. `before` and `after` are
-- digests of the file up to where the piece begins and ends: a file that goes on where an earlier one ended is taken up there.
CREATE TABLE billing.import_pieces (
    org_id uuid NOT NULL, -- all zeros: a file whose rows say whose they are
    before bytea NOT NULL,
    lines integer NOT NULL,
    after bytea NOT NULL,
    accepted integer NOT NULL,
    rejected integer NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, before, lines, after)
);
SELECT billing.hold_rows('billing.import_pieces');

-- As before; of a level, what is held now.
CREATE OR REPLACE VIEW billing.usage_current WITH (security_invoker = true) AS
WITH terms AS (
    SELECT s.org_id, q ->> 'meter' AS service, (q ->> 'limit')::bigint AS quota, 0 AS rank
    FROM billing.subscriptions s
    JOIN billing.plan_versions v ON v.plan = s.plan AND v.version = s.plan_version
    CROSS JOIN LATERAL jsonb_array_elements(v.spec -> 'quotas') q
    WHERE s.ended_at IS NULL AND q ->> 'window' = 'period' AND q ->> 'per' = 'org'
    UNION ALL
    SELECT org_id, meter, limit_units, billing.override_rank(managed_by)
    FROM billing.quotas
    WHERE time_window = 'period' AND per = 'org' AND (until IS NULL OR until > now())
),
standing AS (
    SELECT DISTINCT ON (org_id, service) org_id, service, quota FROM terms ORDER BY org_id, service, rank DESC
),
counted AS (
    SELECT DISTINCT ON (org_id, service) org_id, service, cumulative, updated_at
    FROM billing.usage_period
    WHERE period_start <= now() AND now() < period_end
    ORDER BY org_id, service, period_start DESC
),
held AS (
    SELECT org_id, service, sum(quantity)::bigint AS quantity, max(at) AS at FROM billing.levels_current GROUP BY org_id, service
),
used AS (
    SELECT org_id, service, coalesce(h.quantity, c.cumulative) AS cumulative, coalesce(h.at, c.updated_at) AS updated_at
    FROM counted c FULL JOIN held h USING (org_id, service)
),
joined AS (
    SELECT org_id, service, coalesce(u.cumulative, 0) AS current_usage, t.quota, u.updated_at
    FROM standing t FULL JOIN used u USING (org_id, service)
)
SELECT
    org_id, service, current_usage, quota,
    CASE WHEN quota > 0 THEN round(100.0 * current_usage / quota, 2) END AS percentage_used,
    CASE
        WHEN quota IS NULL THEN 'ok'
        WHEN current_usage >= quota THEN 'exceeded'
        WHEN current_usage * 100 >= quota::numeric * 80 THEN 'warning'
        ELSE 'ok'
    END AS status,
    updated_at
FROM joined;
