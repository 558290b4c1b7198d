-- The life of a subscription: billing periods, trials, awaited changes, cancellation, what was negotiated.

ALTER TABLE billing.subscriptions
    DROP CONSTRAINT subscriptions_billing_interval_check,
    ADD CONSTRAINT subscriptions_billing_interval_check CHECK (billing_interval IN ('day', 'week', 'month', 'year')),
    ADD COLUMN interval_count integer NOT NULL DEFAULT 1 CHECK (interval_count > 0),
    ADD COLUMN zone text NOT NULL DEFAULT 'UTC', -- whose midnights and summer time the billing periods follow
    ADD COLUMN period_start timestamptz, -- what the base price was charged for last …
    ADD COLUMN period_end timestamptz CHECK (period_end > period_start),
    ADD COLUMN paid boolean NOT NULL DEFAULT false, -- … false: it was not (a trial, a pause)
    ADD COLUMN next_anchor timestamptz, -- in place of the anchor, when the period under way ends
    ADD COLUMN anchored_at timestamptz, -- when the anchor last took another's place: the usage period of then ended there
    ADD COLUMN next_plan text, -- of next_plan_version
    ADD COLUMN trial_start timestamptz,
    ADD COLUMN trial_end timestamptz CHECK (trial_end > trial_start),
    ADD COLUMN former_plan text, -- what a reverse trial falls back to
    ADD COLUMN former_plan_version integer,
    ADD COLUMN cancel_at timestamptz,
    ADD COLUMN cancel_reason text,
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN auto_renew boolean NOT NULL DEFAULT true,
    ADD COLUMN terms jsonb, -- what was negotiated in place of the plan's: {price, prices, interval, interval_count}
    ADD COLUMN revision integer NOT NULL DEFAULT 0; -- changes made; names what each of them causes

UPDATE billing.subscriptions SET next_plan = plan WHERE next_plan_version IS NOT NULL;
ALTER TABLE billing.subscriptions
    DROP CONSTRAINT subscriptions_plan_next_plan_version_fkey,
    ADD FOREIGN KEY (next_plan, next_plan_version) REFERENCES billing.plan_versions (plan, version),
    ADD FOREIGN KEY (former_plan, former_plan_version) REFERENCES billing.plan_versions (plan, version),
    ADD CHECK ((next_plan IS NULL) = (next_plan_version IS NULL)),
    ADD CHECK ((former_plan IS NULL) = (former_plan_version IS NULL)),
    ADD CHECK ((trial_start IS NULL) = (trial_end IS NULL)),
    ADD CHECK ((period_start IS NULL) = (period_end IS NULL));

-- Periods under way were charged elsewhere; what is written from now on begins with the next.
UPDATE billing.subscriptions s
SET period_start = b.starts, period_end = b.ends, paid = true
FROM (
    SELECT id, max(at) FILTER (WHERE at <= now()) AS starts, min(at) FILTER (WHERE at > now()) AS ends
    FROM billing.subscriptions
    CROSS JOIN LATERAL (
        SELECT (anchor AT TIME ZONE 'UTC' + n * CASE billing_interval WHEN 'year' THEN interval '1 year' ELSE interval '1 month' END)
            AT TIME ZONE 'UTC' AS at
        FROM generate_series(-1200, 1200) AS n
    ) AS grid
    WHERE ended_at IS NULL
    GROUP BY id
) AS b
WHERE s.id = b.id;

-- Kinds come and go with versions; each deliverer takes those that it knows (billing/store/delivery.sql). New:
--   update_subscription  {org_id, cancel_at, paused, trial_end}                  all of it, as it is after a change
ALTER TABLE billing.outbox DROP CONSTRAINT outbox_kind_check, ADD CHECK (kind ~ '^[a-z][a-z_]*$');

CREATE INDEX subscriptions_period_end ON billing.subscriptions (period_end) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_trial_end ON billing.subscriptions (trial_end) WHERE ended_at IS NULL AND status = 'trialing';
CREATE INDEX subscriptions_cancel_at ON billing.subscriptions (cancel_at) WHERE ended_at IS NULL AND cancel_at IS NOT NULL;

-- That a period was renewed is no decision of anybody's.
DROP TRIGGER audit ON billing.subscriptions;
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.subscriptions
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('subscription', 'plan', 'created_at period_start period_end paid revision');

-- What becomes of a trial that ends with nothing to charge.
CREATE TABLE billing.trial_settings (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    auto_downgrade boolean NOT NULL
);
INSERT INTO billing.trial_settings (auto_downgrade) VALUES (true);
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.trial_settings
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('trials', 'auto_downgrade', 'one');
