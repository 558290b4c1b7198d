-- Who changed what, when, from what to what. Rows are written by triggers, in the transaction of the change: what is undone leaves none,
-- and no change can be forgotten, whichever program or hand makes it.
CREATE TABLE billing.audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL, -- who says to have done it: ann@host, control, aggregator
    login text NOT NULL, -- the login of Postgres that it was done under
    program text NOT NULL, -- its application_name
    action text NOT NULL, -- quota.changed
    org_id uuid, -- whom it concerns; null: everybody
    subject text NOT NULL, -- quota api period org api
    before jsonb, -- of a change, only what differs; null where there was nothing
    after jsonb
);
CREATE INDEX audit_log_at ON billing.audit_log (at);
CREATE INDEX audit_log_org ON billing.audit_log (org_id, at);
SELECT billing.hold_rows('billing.audit_log');

CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
ALTER TABLE billing.audit_log ENABLE ALWAYS TRIGGER audit_log_append_only; -- replication and restores too

CREATE FUNCTION billing.write_audit(what text, org uuid, about text, was jsonb, becomes jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO billing.audit_log (actor, login, program, action, org_id, subject, before, after)
    VALUES (
        coalesce(nullif(current_setting('weighbridge.actor', true), ''), session_user), session_user,
        current_setting('application_name'), what, org, about, was, becomes
    )
$$;

-- The keys of `one` that `other` has otherwise.
CREATE FUNCTION billing.differing(one jsonb, other jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(one) WHERE other -> key IS DISTINCT FROM value
$$;

-- For each row. Arguments: the noun; the columns that name the thing, separated by spaces; those that are left out.
-- It runs as the owner: roles need no right to write the log, and so cannot write into it what did not happen.
CREATE FUNCTION billing.audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hidden text[] := string_to_array(TG_ARGV[2], ' ');
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - hidden END;
    becomes jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - hidden END;
    one jsonb := coalesce(becomes, was);
    verb text := CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'DELETE' THEN 'removed' ELSE 'changed' END;
    about text := TG_ARGV[0];
    named text;
BEGIN
    FOREACH named IN ARRAY string_to_array(TG_ARGV[1], ' ') LOOP
        about := about || ' ' || coalesce(one ->> named, '-');
    END LOOP;
    IF TG_OP = 'UPDATE' THEN
        IF was = becomes THEN
            RETURN NULL;
        END IF;
        FOREACH named IN ARRAY ARRAY['deleted', 'revoked', 'ended'] LOOP
            IF was ->> (named || '_at') IS NULL AND becomes ->> (named || '_at') IS NOT NULL THEN
                verb := named;
            END IF;
        END LOOP;
        one := becomes;
        PERFORM billing.write_audit(
            TG_ARGV[0] || '.' || verb, coalesce(one ->> 'org_id', CASE WHEN TG_ARGV[0] = 'org' THEN one ->> 'id' END)::uuid, about,
            billing.differing(was, becomes), billing.differing(becomes, was)
        );
    ELSE
        PERFORM billing.write_audit(
            TG_ARGV[0] || '.' || verb, coalesce(one ->> 'org_id', CASE WHEN TG_ARGV[0] = 'org' THEN one ->> 'id' END)::uuid, about,
            was, becomes
        );
    END IF;
    RETURN NULL;
END $$;

-- A new version of a plan, beside the one before it.
CREATE FUNCTION billing.audit_plan_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last jsonb := (SELECT v.spec FROM billing.plan_versions v WHERE v.plan = NEW.plan AND v.version = NEW.version - 1);
BEGIN
    PERFORM billing.write_audit(
        CASE WHEN last IS NULL THEN 'plan.created' ELSE 'plan.changed' END, NULL, format('plan %s version %s', NEW.plan, NEW.version),
        CASE WHEN last IS NOT NULL THEN billing.differing(last, NEW.spec) END,
        CASE WHEN last IS NULL THEN NEW.spec ELSE billing.differing(NEW.spec, last) END || jsonb_build_object('managed_by', NEW.managed_by)
    );
    RETURN NULL;
END $$;

-- The files themselves are kept in config_sets.
CREATE FUNCTION billing.audit_config_set() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last text := (SELECT s.version FROM billing.config_sets s WHERE s.id < NEW.id ORDER BY s.id DESC LIMIT 1);
BEGIN
    PERFORM billing.write_audit(
        'config.applied', NULL, 'config set ' || NEW.id,
        CASE WHEN last IS NOT NULL THEN jsonb_build_object('version', last) END, jsonb_build_object('version', NEW.version)
    );
    RETURN NULL;
END $$;

CREATE FUNCTION billing.audit_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM billing.write_audit(TG_ARGV[0] || '.truncated', NULL, format('table %s.%s', TG_TABLE_SCHEMA, TG_TABLE_NAME), NULL, NULL);
    RETURN NULL;
END $$;

-- Nobody calls these but the triggers above, and nobody hangs them on a table of his own.
REVOKE EXECUTE ON FUNCTION billing.write_audit(text, uuid, text, jsonb, jsonb), billing.audit_row(), billing.audit_plan_version(),
    billing.audit_config_set(), billing.audit_truncate() FROM PUBLIC;

-- What of a row is a change that somebody decided; the rest (versions told, attempts made) is bookkeeping.
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF slug, name, deleted_at ON billing.organizations
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('org', 'slug', 'ent_version published_version created_at');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF label, expires_at, revoked_at, scopes, limits, replaced_by ON billing.api_keys
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('key', 'id', 'sha256 withdrawn_at created_at');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.api_tokens
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('token', 'id', 'sha256 created_at');
CREATE TRIGGER audit AFTER DELETE OR UPDATE OF status, managed_by ON billing.plans
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('plan', 'name', 'version created_at updated_at');
CREATE TRIGGER audit AFTER INSERT ON billing.plan_versions FOR EACH ROW EXECUTE FUNCTION billing.audit_plan_version();
CREATE TRIGGER audit_removed AFTER DELETE OR UPDATE ON billing.plan_versions
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('plan', 'plan version', 'created_at');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.subscriptions
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('subscription', 'plan', 'created_at');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.quotas
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('quota', 'meter time_window per managed_by', 'id created_at');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.override_limits
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('limit', 'slot managed_by', 'id created_at');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.bypasses
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('bypass', 'id', 'created_at');
CREATE TRIGGER audit AFTER INSERT ON billing.config_sets FOR EACH ROW EXECUTE FUNCTION billing.audit_config_set();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.installation
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('installation', 'stripe_mode', 'one');

CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.organizations FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('org');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.api_keys FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('key');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.api_tokens FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('token');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.plan_versions FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('plan');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('subscription');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.quotas FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('quota');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.override_limits FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('limit');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.bypasses FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('bypass');
