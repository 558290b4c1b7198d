-- Changes that were asked for under an Idempotency-Key. Read by billing/store/repeats.py.

-- claim --
-- $1 id, $2 fingerprint, $3 now. Nothing where somebody has it.
INSERT INTO billing.repeats (id, fingerprint, begun_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING RETURNING true

-- find --
SELECT fingerprint, begun_at, status, answer, failed FROM billing.repeats WHERE id = $1

-- keep --
-- $1 id, $2 status, $3 answer
UPDATE billing.repeats SET status = $2, answer = $3 WHERE id = $1

-- fail --
UPDATE billing.repeats SET failed = true WHERE id = $1

-- forget --
DELETE FROM billing.repeats WHERE id = $1

-- sweep --
-- $1 those that began before, $2 at most so many. Others sweep beside; none waits for another.
WITH gone AS (
    DELETE FROM billing.repeats
    WHERE id IN (SELECT id FROM billing.repeats WHERE begun_at < $1 ORDER BY begun_at LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING 1
)
SELECT count(*) FROM gone
