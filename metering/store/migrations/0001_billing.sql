-- Who is billed, for what, and what must still reach Stripe. Usage itself is in 0002_usage.sql.
--
-- Money is numeric in major units unless a name ends in _minor; instants are timestamptz; quantities are bigint in a
-- meter's base unit. Every table that belongs to an organization carries org_id, so that it can be distributed by it.

CREATE SCHEMA IF NOT EXISTS billing;

CREATE TABLE billing.organizations (
    id uuid PRIMARY KEY,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    name text NOT NULL CHECK (name <> ''),
    ent_version bigint NOT NULL DEFAULT 1, -- raised by every change of what the organization may do
    published_version bigint NOT NULL DEFAULT 0, -- what the gateways were told; behind ent_version while that is due
    created_at timestamptz NOT NULL,
    deleted_at timestamptz
);
-- A deleted organization gives its slug back.
CREATE UNIQUE INDEX organizations_slug ON billing.organizations (slug) WHERE deleted_at IS NULL;
CREATE INDEX organizations_unpublished ON billing.organizations (id) WHERE published_version < ent_version;

CREATE TABLE billing.api_keys (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    sha256 text NOT NULL UNIQUE CHECK (sha256 ~ '^[0-9a-f]{64}$'), -- the key itself is never stored
    hint text NOT NULL, -- its last four characters
    label text NOT NULL DEFAULT '',
    test boolean NOT NULL DEFAULT false,
    imported boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    expires_at timestamptz, -- set by a rotation: until then the old key works beside the new
    revoked_at timestamptz,
    withdrawn_at timestamptz -- when the gateways were told of the revocation
);
CREATE INDEX api_keys_org ON billing.api_keys (org_id);

CREATE TABLE billing.plans (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,47}$'),
    version integer NOT NULL, -- the newest: what a new subscription gets
    managed_by text NOT NULL CHECK (managed_by IN ('file', 'api')),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE billing.plan_versions (
    plan text NOT NULL REFERENCES billing.plans (name),
    version integer NOT NULL CHECK (version > 0),
    spec jsonb NOT NULL, -- billing/model/plan.py, to_json
    managed_by text NOT NULL CHECK (managed_by IN ('file', 'api')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (plan, version)
);

CREATE TABLE billing.customers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid NOT NULL UNIQUE REFERENCES billing.organizations (id),
    email text,
    name text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    created_at timestamptz NOT NULL
);

CREATE TABLE billing.subscriptions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    plan text NOT NULL,
    plan_version integer NOT NULL,
    status text NOT NULL CHECK (status IN
        ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'unpaid', 'canceled', 'paused')),
    anchor timestamptz NOT NULL, -- every usage period is computed from it (metering/model/period.py)
    billing_interval text NOT NULL CHECK (billing_interval IN ('month', 'year')),
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    amount numeric, -- base price an interval; null where it was negotiated
    trial_days integer NOT NULL DEFAULT 0 CHECK (trial_days >= 0),
    next_plan_version integer, -- a version of the same plan that the subscription moves to …
    next_version_at timestamptz, -- … when this period starts
    created_at timestamptz NOT NULL,
    canceled_at timestamptz,
    ended_at timestamptz,
    FOREIGN KEY (plan, plan_version) REFERENCES billing.plan_versions (plan, version),
    FOREIGN KEY (plan, next_plan_version) REFERENCES billing.plan_versions (plan, version),
    CHECK ((next_plan_version IS NULL) = (next_version_at IS NULL))
);
CREATE UNIQUE INDEX subscriptions_one_live ON billing.subscriptions (org_id) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_plan ON billing.subscriptions (plan, plan_version) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_due ON billing.subscriptions (next_version_at) WHERE next_version_at IS NOT NULL;

-- One organization's quotas in place of its plan's, until an instant.
CREATE TABLE billing.quotas (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    meter text NOT NULL,
    limit_units bigint CHECK (limit_units >= 0), -- null is unlimited
    time_window text NOT NULL CHECK (time_window IN ('hour', 'day', 'period', 'month')),
    mode text NOT NULL CHECK (mode IN ('hard', 'soft', 'overage')),
    per text NOT NULL DEFAULT 'org' CHECK (per IN ('org', 'route', 'key')),
    on_store_failure jsonb, -- "open", "closed", {"grace": n}; null leaves it to route and defaults
    reason text NOT NULL CHECK (reason <> ''),
    until timestamptz,
    managed_by text NOT NULL CHECK (managed_by IN ('file', 'api')),
    created_at timestamptz NOT NULL,
    UNIQUE (org_id, managed_by, meter, time_window, per)
);
CREATE INDEX quotas_until ON billing.quotas (until);

-- What must reach Stripe, written in the transaction that caused it. A payload never changes. Rows of one
-- customer_key are delivered in the order of their ids. Kinds, and the payload of each:
--   ensure_customer      {org_id, slug, name, email}
--   ensure_plan          {plan, version, title, interval, currency, amount_minor,
--                         meters: [{meter, title, report, report_size, each}]}   each: price of one report unit, major units
--   ensure_subscription  {org_id, plan, version, anchor, trial_days}             anchor: RFC 3339
--   meter_event          {org_id, meter, value, timestamp}                       written by aggregator/overage.py
--   cancel_subscription  {org_id}                                                its organization was deleted
CREATE TABLE billing.outbox (
    id bigserial PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN
        ('ensure_customer', 'ensure_plan', 'ensure_subscription', 'meter_event', 'cancel_subscription')),
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    customer_key text NOT NULL, -- the organization's id, and for a meter event ":<meter>" behind it
    identifier text NOT NULL UNIQUE CHECK (length(identifier) <= 100),
    payload jsonb NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead', 'unknown')),
    attempts integer NOT NULL DEFAULT 0,
    first_attempt_at timestamptz,
    next_attempt_at timestamptz,
    last_error text,
    created_at timestamptz NOT NULL,
    delivered_at timestamptz
);
CREATE INDEX outbox_due ON billing.outbox (customer_key, id) WHERE state = 'pending';

-- Which object at Stripe stands for which thing of ours: ('customer', <org id>) -> cus_…
CREATE TABLE billing.stripe_objects (
    kind text NOT NULL,
    key text NOT NULL,
    stripe_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, key)
);

CREATE TABLE billing.webhook_events (
    event_id text PRIMARY KEY,
    type text NOT NULL,
    status text NOT NULL DEFAULT 'received' CHECK (status IN ('received', 'success', 'failed')),
    payload jsonb NOT NULL,
    received_at timestamptz NOT NULL,
    processed_at timestamptz,
    last_error text
);

CREATE TABLE billing.invoices (
    id text PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    status text NOT NULL CHECK (status IN ('draft', 'open', 'paid', 'uncollectible', 'void')),
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    subtotal numeric NOT NULL,
    tax numeric NOT NULL DEFAULT 0,
    total numeric NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    due_at timestamptz,
    paid_at timestamptz
);
CREATE INDEX invoices_org ON billing.invoices (org_id, created_at);

CREATE TABLE billing.invoice_lines (
    invoice_id text NOT NULL REFERENCES billing.invoices (id),
    position integer NOT NULL,
    meter text, -- null for the base price
    description text NOT NULL,
    quantity numeric NOT NULL,
    unit_price numeric NOT NULL,
    amount numeric NOT NULL, -- rounded once, half away from zero, to the currency's minor unit
    PRIMARY KEY (invoice_id, position)
);

-- Every set of configuration files that was applied, newest last.
CREATE TABLE billing.config_sets (
    id bigserial PRIMARY KEY,
    version text NOT NULL, -- hash of the set
    files jsonb NOT NULL, -- name -> text
    applied_at timestamptz NOT NULL
);
