-- What Stripe tells us, what customers pay with, and each try to charge them.

-- The inbox. Events of one object are worked through in the order in which they came; what an object is now is asked of Stripe.
ALTER TABLE billing.webhook_events
    ADD COLUMN seq bigserial NOT NULL,
    ADD COLUMN object_id text NOT NULL DEFAULT '', -- what it is about
    ADD COLUMN created_at timestamptz, -- when Stripe made it
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN next_attempt_at timestamptz,
    DROP CONSTRAINT webhook_events_status_check,
    ADD CONSTRAINT webhook_events_status_check CHECK (status IN ('received', 'success', 'ignored', 'failed'));
CREATE INDEX webhook_events_waiting ON billing.webhook_events (object_id, seq) WHERE status = 'received';
CREATE INDEX webhook_events_seq ON billing.webhook_events (seq);

-- An account has two modes that share its id; a sandbox of ours may have none.
ALTER TABLE billing.installation ADD COLUMN account text;
CREATE INDEX stripe_objects_id ON billing.stripe_objects (stripe_id);

ALTER TABLE billing.customers ADD COLUMN default_payment_method text; -- as Stripe has it; one of payment_methods, once that came

CREATE TABLE billing.payment_methods (
    id text PRIMARY KEY, -- pm_…
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    type text NOT NULL,
    brand text,
    last4 text CHECK (last4 ~ '^[0-9A-Za-z]{1,8}$'), -- never more of a number than this
    exp_month integer,
    exp_year integer,
    created_at timestamptz NOT NULL
);
CREATE INDEX payment_methods_org ON billing.payment_methods (org_id);
SELECT billing.hold_rows('billing.payment_methods');

-- One row a try. Written before Stripe is asked, so that a try whose answer was lost is known of.
CREATE TABLE billing.payment_attempts (
    invoice_id text NOT NULL,
    attempt integer NOT NULL CHECK (attempt > 0),
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    customer text, -- what Stripe was told, and is told again …
    method text, -- … by a repetition
    state text NOT NULL DEFAULT 'unknown' CHECK (state IN ('paid', 'declined', 'needs_action', 'unknown')),
    reason text,
    payment_id text, -- pi_…
    refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor BETWEEN 0 AND amount_minor),
    begun_at timestamptz NOT NULL,
    settled_at timestamptz,
    PRIMARY KEY (invoice_id, attempt)
);
CREATE INDEX payment_attempts_org ON billing.payment_attempts (org_id, begun_at);
CREATE INDEX payment_attempts_unknown ON billing.payment_attempts (begun_at) WHERE state = 'unknown';
CREATE UNIQUE INDEX payment_attempts_at_stripe ON billing.payment_attempts (payment_id) WHERE payment_id IS NOT NULL;
SELECT billing.hold_rows('billing.payment_attempts');
