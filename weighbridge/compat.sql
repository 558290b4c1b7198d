-- Views under the names of the guide, for policies and queries of an application that lives in the same database, and for Hasura.
-- Run by `weighbridge init --compat`; doing it again changes nothing. {schema} and {role} are quoted identifiers.
--
-- They read with the rights of who asks: a user of the application sees the customer whose user_id is its own (auth.uid()), and what
-- belongs to that customer's organization; nobody sees anything else.

-- The organization that the asking user pays for, or null.
CREATE OR REPLACE FUNCTION billing.org_of_user() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.org_id FROM billing.customers c WHERE c.user_id = auth.uid()
$$;

-- Stripe's id of it; of any other organization, null.
CREATE OR REPLACE FUNCTION billing.stripe_customer(org uuid) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT x.stripe_id FROM billing.stripe_objects x WHERE x.kind = 'customer' AND x.key = org::text AND org = billing.org_of_user()
$$;

DO $policies$
DECLARE
    held text;
BEGIN
    FOREACH held IN ARRAY ARRAY['customers', 'subscriptions', 'quotas', 'usage_events', 'usage_hourly', 'usage_daily', 'usage_period',
        'levels_current', 'invoices'] LOOP
        EXECUTE format('DROP POLICY IF EXISTS of_user ON billing.%I', held);
        EXECUTE format('CREATE POLICY of_user ON billing.%I FOR SELECT TO {role} USING (org_id = (SELECT billing.org_of_user()))', held);
        -- Whatever a session binds itself to.
        EXECUTE format('DROP POLICY IF EXISTS of_user_alone ON billing.%I', held);
        EXECUTE format(
            'CREATE POLICY of_user_alone ON billing.%I AS RESTRICTIVE TO {role} USING (org_id = (SELECT billing.org_of_user()))', held);
        EXECUTE format('GRANT SELECT ON billing.%I TO {role}', held);
    END LOOP;
    DROP POLICY IF EXISTS of_user ON billing.organizations;
    CREATE POLICY of_user ON billing.organizations FOR SELECT TO {role} USING (id = (SELECT billing.org_of_user()));
    DROP POLICY IF EXISTS of_user_alone ON billing.organizations;
    CREATE POLICY of_user_alone ON billing.organizations AS RESTRICTIVE TO {role} USING (id = (SELECT billing.org_of_user()));
END $policies$;
GRANT USAGE ON SCHEMA billing, {schema} TO {role};
GRANT SELECT ON billing.organizations, billing.plans, billing.plan_versions, billing.fallback_plan, billing.usage_current TO {role};

CREATE OR REPLACE VIEW {schema}.billing_customers WITH (security_invoker = true) AS
SELECT c.id, c.org_id, c.user_id, c.name, c.email, c.phone, c.line1 AS address, c.line2, c.city, c.state, c.postal_code, c.country,
    c.currency, c.language, p.plan AS billing_plan, s.status AS billing_status, billing.stripe_customer(c.org_id) AS stripe_customer_id,
    billing.stripe_customer(c.org_id) AS stripe_id, c.created_at
FROM billing.customers c
LEFT JOIN LATERAL billing.plan_in_force(c.org_id) p ON true
LEFT JOIN billing.subscriptions s ON s.org_id = c.org_id AND s.ended_at IS NULL;

CREATE OR REPLACE VIEW {schema}.billing_subscriptions WITH (security_invoker = true) AS
SELECT s.id, s.org_id, c.id AS customer_id, s.plan AS plan_id, s.plan, s.plan_version, s.status, s.amount, s.currency,
    s.billing_interval AS interval, lower(billing.period_at(s.anchor, now())) AS current_period_start,
    upper(billing.period_at(s.anchor, now())) AS current_period_end, s.created_at, s.canceled_at, s.ended_at
FROM billing.subscriptions s
LEFT JOIN billing.customers c ON c.org_id = s.org_id;

CREATE OR REPLACE VIEW {schema}.billing_usage_current WITH (security_invoker = true) AS SELECT * FROM billing.usage_current;

CREATE OR REPLACE VIEW {schema}.billing_usage_events WITH (security_invoker = true) AS
SELECT u.id, u.org_id, c.id AS customer_id, u.service, u.quantity, u."timestamp", u.dimensions AS metadata, u.recorded_at AS created_at
FROM billing.usage_events u
LEFT JOIN billing.customers c ON c.org_id = u.org_id;

CREATE OR REPLACE VIEW {schema}.billing_usage_daily WITH (security_invoker = true) AS
SELECT org_id, service, date, total_quantity, event_count FROM billing.usage_daily;

CREATE OR REPLACE VIEW {schema}.billing_invoices WITH (security_invoker = true) AS
SELECT i.id, i.org_id, c.id AS customer_id, i.status, i.currency, i.subtotal, i.tax, i.total, i.period_start, i.period_end, i.created_at,
    i.due_at AS due_date, i.paid_at
FROM billing.invoices i
LEFT JOIN billing.customers c ON c.org_id = i.org_id;

CREATE OR REPLACE VIEW {schema}.billing_quotas WITH (security_invoker = true) AS
SELECT s.org_id, q.meter AS service, q.time_window AS "window", q.mode, q.limit_units AS quota
FROM billing.subscriptions s, LATERAL billing.quotas_in_force(s.org_id) q
WHERE s.ended_at IS NULL;

CREATE OR REPLACE VIEW {schema}.billing_plans WITH (security_invoker = true) AS
SELECT p.name AS id, p.name, v.spec ->> 'title' AS title, v.spec -> 'price' AS price, v.spec ->> 'interval' AS interval,
    v.spec -> 'quotas' AS quotas, v.spec -> 'features' AS features, p.status
FROM billing.plans p
JOIN billing.plan_versions v ON v.plan = p.name AND v.version = p.version;

GRANT SELECT ON {schema}.billing_customers, {schema}.billing_subscriptions, {schema}.billing_usage_current, {schema}.billing_usage_events,
    {schema}.billing_usage_daily, {schema}.billing_invoices, {schema}.billing_quotas, {schema}.billing_plans TO {role};
