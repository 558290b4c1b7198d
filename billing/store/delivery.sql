-- The outbox as its deliverer sees it, and which object at Stripe stands for what of ours. Rows are written elsewhere.
--
-- A row may go when no earlier pending row stands before it: of the same customer_key (one in flight for each customer
-- and meter), or of the organization itself, whose rows have its id as their key (its customer, plan, subscription).
-- A cancellation waits for everything before it. A subscription waits for the usage before it: Stripe prices an event by
-- what the subscription is when it arrives ("flexible" billing). A meter event needs its customer and its meter to be known.

-- claim_due --
-- Take rows that are due; a claim is a lease, so that rows of a deliverer that died come back.
-- $1 now, $2 end of the lease, $3 how many, $4 kinds[] (a newer version's kinds are left to it)
WITH due AS (
    SELECT o.id, o.first_attempt_at
    FROM billing.outbox o
    WHERE o.state = 'pending'
        AND o.kind = ANY ($4::text[])
        AND (o.next_attempt_at IS NULL OR o.next_attempt_at <= $1)
        AND NOT EXISTS (
            SELECT FROM billing.outbox e WHERE e.state = 'pending' AND e.customer_key = o.customer_key AND e.id < o.id
        )
        AND NOT EXISTS (
            SELECT FROM billing.outbox e WHERE e.state = 'pending' AND e.customer_key = o.org_id::text AND e.id < o.id
        )
        AND (
            o.kind <> 'cancel_subscription'
            OR NOT EXISTS (SELECT FROM billing.outbox e WHERE e.state = 'pending' AND e.org_id = o.org_id AND e.id < o.id)
        )
        AND (
            o.kind <> 'ensure_subscription'
            OR NOT EXISTS (
                SELECT FROM billing.stripe_objects m
                JOIN billing.outbox e ON e.customer_key = o.org_id::text || ':' || m.key
                WHERE m.kind = 'meter' AND e.state = 'pending' AND e.id < o.id
            )
        )
        AND (
            o.kind <> 'meter_event'
            OR EXISTS (SELECT FROM billing.stripe_objects WHERE kind = 'customer' AND key = o.payload ->> 'org_id')
            AND EXISTS (SELECT FROM billing.stripe_objects WHERE kind = 'meter' AND key = o.payload ->> 'meter')
        )
    ORDER BY o.id
    LIMIT $3
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE billing.outbox o
SET attempts = o.attempts + 1, first_attempt_at = coalesce(o.first_attempt_at, $1), next_attempt_at = $2
FROM due
WHERE o.id = due.id
RETURNING o.id, o.kind, o.org_id::text, o.identifier, o.payload::text, o.attempts, due.first_attempt_at AS before;

-- finish --
-- Write an attempt's verdict, unless the row was claimed again in the meantime. A delivery is true whoever finds out.
-- $1 id, $2 the attempts that the claim counted, $3 state, $4 first_attempt_at, $5 next_attempt_at, $6 error, $7 now
UPDATE billing.outbox
SET state = $3,
    first_attempt_at = $4,
    next_attempt_at = $5,
    last_error = $6,
    delivered_at = CASE WHEN $3 = 'delivered' THEN $7::timestamptz END
WHERE id = $1
    AND ((state = 'pending' AND attempts = $2) OR ($3 = 'delivered' AND state IN ('pending', 'unknown')))
RETURNING id;

-- give_back --
-- Undo a claim that led to no attempt: the row waits, and is not a try older.
-- $1 id, $2 the attempts that the claim counted, $3 first_attempt_at before the claim, $4 next_attempt_at, $5 why
UPDATE billing.outbox
SET attempts = attempts - 1, first_attempt_at = $3, next_attempt_at = $4, last_error = $5
WHERE id = $1 AND state = 'pending' AND attempts = $2
RETURNING id;

-- backlog --
-- How many rows are in each state that needs someone's care, and since when the oldest of them stands.
SELECT state, count(*) AS rows, min(created_at) AS oldest
FROM billing.outbox
WHERE state <> 'delivered'
GROUP BY state;

-- stripe_id --
-- $1 kind, $2 key
SELECT stripe_id FROM billing.stripe_objects WHERE kind = $1 AND key = $2;

-- stripe_ids_under --
-- Everything of one kind whose key starts with a prefix.
-- $1 kind, $2 prefix
SELECT key, stripe_id FROM billing.stripe_objects WHERE kind = $1 AND starts_with(key, $2) ORDER BY key;

-- keep_stripe_id --
-- $1 kind, $2 key, $3 stripe_id, $4 now
INSERT INTO billing.stripe_objects (kind, key, stripe_id, created_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (kind, key) DO UPDATE SET stripe_id = excluded.stripe_id;

-- forget_stripe_id --
-- $1 kind, $2 key
DELETE FROM billing.stripe_objects WHERE kind = $1 AND key = $2;
