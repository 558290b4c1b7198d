-- Coupons and who redeemed them, credits and what they paid, caps on spending, and whom an invoice goes to.

CREATE TABLE billing.coupons (
    code text PRIMARY KEY CHECK (code ~ '^[A-Za-z0-9_-]{1,64}$'),
    name text NOT NULL DEFAULT '',
    percent_off numeric CHECK (percent_off > 0 AND percent_off <= 100),
    amount_off jsonb, -- currency -> major units, as text
    duration text NOT NULL CHECK (duration IN ('once', 'repeating', 'forever')),
    months integer CHECK (months > 0),
    max_redemptions integer CHECK (max_redemptions > 0),
    redeemed integer NOT NULL DEFAULT 0 CHECK (redeemed >= 0 AND (max_redemptions IS NULL OR redeemed <= max_redemptions)),
    redeem_by timestamptz,
    created_at timestamptz NOT NULL,
    withdrawn_at timestamptz, -- nobody redeems it any more; who has it keeps it
    CHECK ((percent_off IS NULL) <> (amount_off IS NULL)),
    CHECK ((duration = 'repeating') = (months IS NOT NULL))
);

-- A coupon that an organization has redeemed: once, whatever is removed and applied again.
CREATE TABLE billing.discounts (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    coupon text NOT NULL REFERENCES billing.coupons (code),
    start_at timestamptz NOT NULL,
    end_at timestamptz CHECK (end_at > start_at),
    removed_at timestamptz,
    UNIQUE (org_id, coupon)
);
SELECT billing.hold_rows('billing.discounts');

-- What it took off which invoice.
CREATE TABLE billing.discount_uses (
    discount_id bigint NOT NULL REFERENCES billing.discounts (id),
    invoice_id text NOT NULL REFERENCES billing.invoices (id),
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    amount numeric NOT NULL CHECK (amount > 0),
    used_at timestamptz NOT NULL,
    undone_at timestamptz, -- the invoice was voided
    PRIMARY KEY (discount_id, invoice_id)
);
SELECT billing.hold_rows('billing.discount_uses');

CREATE TABLE billing.credit_grants (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    identifier text NOT NULL UNIQUE CHECK (length(identifier) BETWEEN 1 AND 200),
    kind text NOT NULL CHECK (kind IN ('promotional', 'paid')),
    amount numeric NOT NULL CHECK (amount > 0),
    amount_left numeric NOT NULL CHECK (amount_left >= 0 AND amount_left <= amount),
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    reason text NOT NULL CHECK (reason <> ''),
    priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 100),
    granted_at timestamptz NOT NULL,
    expires_at timestamptz CHECK (expires_at > granted_at),
    revoked_at timestamptz -- what was left then pays nothing any more
);
CREATE INDEX credit_grants_org ON billing.credit_grants (org_id, id);
SELECT billing.hold_rows('billing.credit_grants');

-- What a grant paid of which invoice; below zero, what came back because it was voided. Σ of a grant = amount - amount_left.
CREATE TABLE billing.credit_burns (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    grant_id bigint NOT NULL REFERENCES billing.credit_grants (id),
    invoice_id text NOT NULL REFERENCES billing.invoices (id),
    amount numeric NOT NULL CHECK (amount <> 0),
    burned_at timestamptz NOT NULL
);
CREATE INDEX credit_burns_invoice ON billing.credit_burns (invoice_id);
CREATE INDEX credit_burns_grant ON billing.credit_burns (grant_id);
SELECT billing.hold_rows('billing.credit_burns');
CREATE TRIGGER credit_burns_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.credit_burns
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

-- The most an organization spends beyond its base price in a period: `operator` stands in for its plan's cap, `customer` is its own,
-- and the lower one holds.
CREATE TABLE billing.spend_caps (
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    set_by text NOT NULL CHECK (set_by IN ('operator', 'customer')),
    amount numeric CHECK (amount >= 0), -- null: the operator lifts the plan's
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, set_by),
    CHECK (amount IS NOT NULL OR set_by = 'operator')
);
SELECT billing.hold_rows('billing.spend_caps');

-- Overrides that nobody sets by hand: `cap` ends overage for the rest of a period, `rollover` carries unused units into it.
ALTER TABLE billing.quotas DROP CONSTRAINT quotas_managed_by_check;
ALTER TABLE billing.quotas ADD CONSTRAINT quotas_managed_by_check CHECK (managed_by IN ('file', 'api', 'cap', 'rollover'));

-- Which override stands over which, for ORDER BY: the later over the earlier.
CREATE FUNCTION billing.override_rank(managed_by text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE managed_by WHEN 'rollover' THEN 1 WHEN 'file' THEN 2 WHEN 'api' THEN 3 WHEN 'cap' THEN 4 END
$$;

-- As before, and what is carried over counts.
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
used AS (
    SELECT DISTINCT ON (org_id, service) org_id, service, cumulative, updated_at
    FROM billing.usage_period
    WHERE period_start <= now() AND now() < period_end
    ORDER BY org_id, service, period_start DESC
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

ALTER TABLE billing.customers
    ADD COLUMN phone text,
    ADD COLUMN line1 text,
    ADD COLUMN line2 text,
    ADD COLUMN city text,
    ADD COLUMN state text,
    ADD COLUMN postal_code text,
    ADD COLUMN country text CHECK (country ~ '^[A-Z]{2}$'),
    ADD COLUMN language text CHECK (language ~ '^[a-z]{2}(-[A-Z]{2})?$'),
    ADD COLUMN tax_ids jsonb NOT NULL DEFAULT '[]', -- [{type, value}], types as Stripe names them
    ADD COLUMN user_id uuid UNIQUE, -- the user of the application who pays, where one does
    ADD COLUMN marketplace text CHECK (marketplace IN ('aws', 'azure', 'gcp')),
    ADD COLUMN marketplace_customer_id text,
    ADD CONSTRAINT customers_marketplace CHECK ((marketplace IS NULL) = (marketplace_customer_id IS NULL)),
    ADD CONSTRAINT customers_marketplace_once UNIQUE (marketplace, marketplace_customer_id);

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, redeem_by, max_redemptions, withdrawn_at ON billing.coupons
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('coupon', 'code', 'redeemed created_at');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.discounts
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('discount', 'coupon', 'id');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF expires_at, revoked_at, priority, reason ON billing.credit_grants
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('credit', 'id', 'amount_left identifier');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.spend_caps
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('spend_cap', 'set_by', 'updated_at');
CREATE TRIGGER audit AFTER DELETE OR UPDATE ON billing.customers
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('customer', 'name', 'id created_at');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.coupons FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('coupon');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.discounts FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('discount');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.credit_grants FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('credit');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.spend_caps FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('spend_cap');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.customers FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('customer');
