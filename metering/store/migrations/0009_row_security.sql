-- A forgotten WHERE leaks nothing: what belongs to an organization is hidden from a transaction that is bound to another.
--
-- Who sees what:
--   weighbridge_app      rows of the organization that the transaction is bound to; bound to none, nothing
--   weighbridge_service  every organization: flush, overage, publication, the command line
--   the tables' owner    every organization, or, in a transaction that is bound, that one alone
-- Both roles are made, granted and named in policies by metering/store/roles.sql, where the owner may; a superuser, and who has
-- BYPASSRLS, is held by no policy, and so works in one of the two.

-- The organization that this transaction is bound to, or null.
CREATE FUNCTION billing.bound_org() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(current_setting('weighbridge.org', true), '')::uuid
$$;

-- Bind the rest of this transaction to one organization, on behalf of `actor`; in the role for that, where the login may take it.
CREATE FUNCTION billing.bind(org uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('weighbridge.org', org::text, true);
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'weighbridge_app' AND pg_has_role(session_user, oid, 'MEMBER')) THEN
        PERFORM set_config('role', 'weighbridge_app', true);
    END IF;
END $$;

-- Hold a table that carries org_id. Every migration that makes one calls this; roles.sql adds what the roles need.
CREATE FUNCTION billing.hold_rows(name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY of_bound_org ON %s USING (org_id = (SELECT billing.bound_org()))', name);
    EXECUTE format('CREATE POLICY of_owner_unbound ON %s TO CURRENT_USER USING ((SELECT billing.bound_org()) IS NULL)', name);
END $$;

SELECT billing.hold_rows(name::regclass) FROM unnest(ARRAY[
    'billing.api_keys', 'billing.api_tokens', 'billing.bypasses', 'billing.customers', 'billing.invoices', 'billing.outbox',
    'billing.override_limits', 'billing.quotas', 'billing.subscriptions', 'billing.tenants', 'billing.traffic_hourly',
    'billing.usage_daily', 'billing.usage_events', 'billing.usage_hourly', 'billing.usage_period'
]) AS name;

-- Partitions are read through their table, whose policies hold; asked for by their own names they give nobody but the owner anything.
SELECT billing.hold_rows(inhrelid::regclass) FROM pg_inherits WHERE inhparent = 'billing.usage_events'::regclass;

-- What belongs to an organization and says so otherwise.
ALTER TABLE billing.organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing.organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY of_bound_org ON billing.organizations USING (id = (SELECT billing.bound_org()));
CREATE POLICY of_owner_unbound ON billing.organizations TO CURRENT_USER USING ((SELECT billing.bound_org()) IS NULL);

ALTER TABLE billing.invoice_lines ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing.invoice_lines FORCE ROW LEVEL SECURITY;
CREATE POLICY of_bound_org ON billing.invoice_lines
    USING (EXISTS (SELECT FROM billing.invoices i WHERE i.id = invoice_id AND i.org_id = (SELECT billing.bound_org())));
CREATE POLICY of_owner_unbound ON billing.invoice_lines TO CURRENT_USER USING ((SELECT billing.bound_org()) IS NULL);

-- New partitions are made by whoever runs the aggregator, in the owner's name.
CREATE OR REPLACE FUNCTION billing.ensure_usage_partitions(today timestamptz, ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this_month timestamp := date_trunc('month', today AT TIME ZONE 'UTC');
    from_at timestamptz;
    to_at timestamptz;
    name text;
    made integer := 0;
BEGIN
    FOR i IN -1..ahead LOOP
        from_at := (this_month + make_interval(months => i)) AT TIME ZONE 'UTC';
        to_at := (this_month + make_interval(months => i + 1)) AT TIME ZONE 'UTC';
        name := 'usage_events_' || to_char(from_at AT TIME ZONE 'UTC', 'YYYY_MM');
        CONTINUE WHEN to_regclass('billing.' || name) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(1702063989, 2); -- one maker at a time
        CONTINUE WHEN to_regclass('billing.' || name) IS NOT NULL;
        LOCK TABLE billing.usage_events_default IN ACCESS EXCLUSIVE MODE;
        CREATE TEMP TABLE usage_events_moving ON COMMIT DROP AS
            SELECT * FROM billing.usage_events_default WHERE "timestamp" >= from_at AND "timestamp" < to_at;
        DELETE FROM billing.usage_events_default WHERE "timestamp" >= from_at AND "timestamp" < to_at;
        EXECUTE format('CREATE TABLE billing.%I PARTITION OF billing.usage_events FOR VALUES FROM (%L) TO (%L)', name, from_at, to_at);
        PERFORM billing.hold_rows(format('billing.%I', name)::regclass);
        INSERT INTO billing.usage_events SELECT * FROM pg_temp.usage_events_moving;
        DROP TABLE pg_temp.usage_events_moving;
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
