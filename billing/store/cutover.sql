-- From one side of Stripe to the next. Read by billing/store/cutover.py.

-- hold --
-- Nobody else moves the installation, or delivers, until the transaction ends.
SELECT stripe_mode, account FROM billing.installation FOR UPDATE

-- lock_outbox --
LOCK TABLE billing.outbox IN EXCLUSIVE MODE

-- in_the_way --
-- What the side before must say something about first.
SELECT
    (SELECT count(*) FROM billing.outbox WHERE state = 'pending') AS pending,
    (SELECT count(*) FROM billing.outbox WHERE state = 'unknown') AS unknown,
    (SELECT count(*) FROM billing.payment_attempts WHERE state IN ('unknown', 'needs_action')) AS payments

-- orgs_with --
-- Living organizations that had an object of this kind. $1 kind
SELECT o.id::text FROM billing.stripe_objects s JOIN billing.organizations o ON o.id::text = s.key
WHERE s.kind = $1 AND o.deleted_at IS NULL
ORDER BY o.id

-- begin --
-- $1 from mode, $2 from account, $3 to mode, $4 to account, $5 now
INSERT INTO billing.cutovers (from_mode, from_account, to_mode, to_account, at) VALUES ($1, $2, $3, $4, $5) RETURNING id

-- set_aside --
-- All but the usage of periods that ended: that was told, and is not told again. $1 cutover, $2 now
WITH gone AS (
    DELETE FROM billing.outbox
    WHERE kind <> 'meter_event' OR EXISTS (
        SELECT FROM billing.usage_period p
        WHERE p.org_id = outbox.org_id AND p.service = outbox.payload ->> 'meter' AND p.period_end > $2
            AND p.period_start = (outbox.payload ->> 'period_start')::timestamptz
    )
    RETURNING *
)
INSERT INTO billing.outbox_before
    (cutover_id, id, kind, org_id, identifier, payload, state, attempts, last_error, created_at, delivered_at)
SELECT $1, id, kind, org_id, identifier, payload, state, attempts, last_error, created_at, delivered_at FROM gone

-- tell_periods_anew --
-- Periods under way are charged whole by the side to come. $1 now
UPDATE billing.usage_period SET reported = 0 WHERE period_end > $1 AND reported <> 0 RETURNING org_id

-- forget_objects --
DELETE FROM billing.stripe_objects RETURNING key

-- forget_methods --
DELETE FROM billing.payment_methods RETURNING id

-- forget_defaults --
UPDATE billing.customers SET default_payment_method = NULL WHERE default_payment_method IS NOT NULL

-- close_events --
-- $1 now
UPDATE billing.webhook_events SET status = 'ignored', processed_at = $1, last_error = 'of the side of Stripe before the cutover'
WHERE status IN ('received', 'failed')

-- stamp --
-- $1 mode, $2 account, $3 now
UPDATE billing.installation SET stripe_mode = $1, account = $2, stamped_at = $3
