-- The two roles that processes work in, and what each may do. Run behind the migrations, by whoever owns the schema; doing it again
-- changes nothing. What the one who runs it may not do is left out: then the owner itself is held by the policies while it is bound.
--
-- A role of that name that the owner is no member of is another installation's, and is given nothing.
DO $roles$
DECLARE
    held regclass;
    named text;
BEGIN
    FOREACH named IN ARRAY ARRAY['weighbridge_app', 'weighbridge_service'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = named) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', named);
                -- A superuser may take any role; who only may create roles makes itself a member.
                IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                    EXECUTE format('GRANT %I TO CURRENT_USER', named);
                END IF;
            EXCEPTION
                WHEN insufficient_privilege THEN RETURN;
                WHEN duplicate_object OR unique_violation THEN NULL; -- another database of this server made it just now
            END;
        END IF;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = named AND pg_has_role(current_user, oid, 'MEMBER')) THEN
            RETURN;
        END IF;
    END LOOP;

    -- The flush works in a temporary table. Everybody may make one, unless an administrator took that back.
    IF (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()) THEN
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO weighbridge_service', current_database());
    END IF;
    GRANT USAGE ON SCHEMA billing TO weighbridge_app, weighbridge_service;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA billing TO weighbridge_service;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA billing TO weighbridge_service;
    REVOKE INSERT, UPDATE, DELETE ON billing.schema_migrations FROM weighbridge_service;
    REVOKE UPDATE, DELETE ON billing.usage_events, billing.credit_burns FROM weighbridge_service;
    REVOKE INSERT, UPDATE, DELETE ON billing.audit_log FROM weighbridge_service; -- its triggers write it
    GRANT SELECT ON
        billing.organizations, billing.customers, billing.subscriptions, billing.quotas, billing.override_limits, billing.api_keys,
        billing.api_tokens, billing.bypasses, billing.invoices, billing.invoice_lines, billing.invoice_items, billing.tenants,
        billing.payment_methods, billing.payment_attempts, billing.traffic_hourly,
        billing.credit_notes, billing.credit_note_lines, billing.receipts, billing.balance_entries,
        billing.usage_events, billing.usage_hourly, billing.usage_daily, billing.usage_period, billing.usage_current,
        billing.plans, billing.plan_versions, billing.routes, billing.audit_log,
        billing.coupons, billing.discounts, billing.discount_uses, billing.credit_grants, billing.credit_burns, billing.spend_caps,
        billing.invoice_settings, billing.stripe_objects,
        billing.rollovers, billing.fallback_plan, billing.hook_endpoints, billing.hook_events, billing.hook_deliveries
        TO weighbridge_app;
    GRANT SELECT ON billing.quota_alerts, billing.alert_destinations TO weighbridge_app;
    GRANT SELECT ON billing.levels_current, billing.usage_levels TO weighbridge_app;

    REVOKE EXECUTE ON FUNCTION billing.ensure_usage_partitions(timestamptz, integer) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION billing.ensure_usage_partitions(timestamptz, integer) TO weighbridge_service;

    FOR held IN
        SELECT c.oid FROM pg_class c
        WHERE c.relnamespace = 'billing'::regnamespace AND c.relrowsecurity
            AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'of_service')
    LOOP
        EXECUTE format('CREATE POLICY of_service ON %s TO weighbridge_service USING (true)', held);
    END LOOP;
    -- A partition's rows are for those who go through its table.
    FOR held IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'billing.usage_events'::regclass LOOP
        EXECUTE format('REVOKE ALL ON %s FROM weighbridge_service, weighbridge_app', held);
    END LOOP;
END $roles$;
