-- What an organization may use, asked in SQL; and a hand that writes usage itself, held to the quotas that block.
--
-- All of it reads with the rights of who asks: in a transaction that is bound to an organization (billing.bind) there is no other.

-- What a subscription that ended falls back to: BILLING_DEFAULT_PLAN, as it was when the configuration was last applied.
CREATE TABLE billing.fallback_plan (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    plan text NOT NULL
);

-- The plan version that an organization is entitled to, and the anchor of its periods; no row where it is entitled to none.
CREATE FUNCTION billing.plan_in_force(org uuid) RETURNS TABLE (plan text, version integer, spec jsonb, anchor timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT v.plan, v.version, v.spec, coalesce(s.anchor, o.created_at)
    FROM billing.organizations o
    LEFT JOIN LATERAL (
        SELECT b.plan, b.plan_version, b.anchor, b.ended_at IS NULL AND b.status IN ('trialing', 'active', 'past_due') AS entitles
        FROM billing.subscriptions b WHERE b.org_id = o.id ORDER BY b.ended_at DESC NULLS FIRST LIMIT 1
    ) s ON true
    LEFT JOIN billing.fallback_plan f ON s.entitles IS NOT TRUE
    LEFT JOIN billing.plans p ON p.name = f.plan
    JOIN billing.plan_versions v
        ON v.plan = CASE WHEN s.entitles THEN s.plan ELSE p.name END
        AND v.version = CASE WHEN s.entitles THEN s.plan_version ELSE p.version END
    WHERE o.id = org AND o.deleted_at IS NULL
$$;

CREATE FUNCTION billing.has_feature(org uuid, key text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM billing.plan_in_force(org) p, jsonb_array_elements(p.spec -> 'features') f
        WHERE f ->> 'key' = has_feature.key AND f ->> 'number' IS DISTINCT FROM '0'
    )
$$;

-- How many the plan allows: 0 where it has not the feature, null where there is no end to it.
CREATE FUNCTION billing.feature_number(org uuid, key text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN count(*) = 0 THEN 0 ELSE max((f ->> 'number')::bigint) END
    FROM billing.plan_in_force(org) p, jsonb_array_elements(p.spec -> 'features') f
    WHERE f ->> 'key' = feature_number.key
$$;

-- The usage period that holds an instant, always counted from the anchor (metering/model/period.py).
CREATE FUNCTION billing.period_at(anchor timestamptz, at timestamptz) RETURNS tstzrange
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT tstzrange(s.starts, s.ends)
    FROM (SELECT anchor AT TIME ZONE 'UTC' AS a, at AT TIME ZONE 'UTC' AS t) u,
        LATERAL (SELECT (extract(year FROM t) - extract(year FROM a)) * 12 + extract(month FROM t) - extract(month FROM a) AS m) n,
        LATERAL (
            SELECT (a + make_interval(months => (m + d)::int)) AT TIME ZONE 'UTC' AS starts,
                (a + make_interval(months => (m + d + 1)::int)) AT TIME ZONE 'UTC' AS ends
            FROM generate_series(-1, 0) d
        ) s
    WHERE s.starts <= at AND at < s.ends
$$;

-- The quotas of the whole organization that hold now, overrides in place of the plan's. `ends` is where use is refused; null: nowhere.
CREATE FUNCTION billing.quotas_in_force(org uuid)
RETURNS TABLE (meter text, time_window text, mode text, limit_units bigint, ends bigint, anchor timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT ON (t.meter, t.time_window) t.meter, t.time_window, t.mode, t.limit_units,
        CASE WHEN t.shadow THEN NULL WHEN t.mode = 'hard' THEN t.limit_units WHEN t.mode = 'overage' THEN t.stop_at END, p.anchor
    FROM billing.plan_in_force(org) p,
        LATERAL (
            SELECT q ->> 'meter' AS meter, q ->> 'window' AS time_window, q ->> 'mode' AS mode, (q ->> 'limit')::bigint AS limit_units,
                (q ->> 'stop_at')::bigint AS stop_at, coalesce((q ->> 'shadow')::boolean, false) AS shadow, 0 AS rank
            FROM jsonb_array_elements(p.spec -> 'quotas') q
            WHERE q ->> 'per' = 'org'
            UNION ALL
            SELECT b.meter, b.time_window, b.mode, b.limit_units, (b.terms ->> 'stop_at')::bigint,
                coalesce((b.terms ->> 'shadow')::boolean, false), billing.override_rank(b.managed_by)
            FROM billing.quotas b
            WHERE b.org_id = org AND b.per = 'org' AND (b.until IS NULL OR b.until > now())
        ) t
    ORDER BY t.meter, t.time_window, t.rank DESC
$$;

-- Whether so many units more would pass every quota that blocks, by what is in Postgres: as of the last flush. The gateway decides exactly.
CREATE FUNCTION billing.check_quota(org uuid, meter text, units bigint DEFAULT 1) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM billing.plan_in_force(org)) AND NOT EXISTS (
        SELECT FROM billing.quotas_in_force(org) q
        WHERE q.meter = check_quota.meter AND q.ends IS NOT NULL AND q.ends < check_quota.units + CASE q.time_window
            WHEN 'period' THEN coalesce((
                SELECT p.cumulative FROM billing.usage_period p
                WHERE p.org_id = org AND p.service = q.meter AND p.period_start = lower(billing.period_at(q.anchor, now()))
            ), 0)
            ELSE coalesce((
                SELECT sum(h.quantity) FROM billing.usage_hourly h
                WHERE h.org_id = org AND h.service = q.meter AND h.hour >= date_trunc(q.time_window, now(), 'UTC')
            ), 0)
        END
    )
$$;

-- Rows of usage that are written by hand, or by a program of one's own, pass no gateway: here the quotas that block refuse them. What
-- stands in usage_events counts, so the rows of one statement and of several at once add up. A drained batch is a fact and is never
-- refused: the flush says that it is one.
CREATE FUNCTION billing.hold_quotas() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held record;
    span tstzrange;
    used numeric;
BEGIN
    PERFORM pg_advisory_xact_lock(1702063989, hashtext(NEW.org_id || ' ' || NEW.service));
    FOR held IN SELECT * FROM billing.quotas_in_force(NEW.org_id) q WHERE q.meter = NEW.service AND q.ends IS NOT NULL LOOP
        span := CASE held.time_window
            WHEN 'period' THEN billing.period_at(held.anchor, NEW."timestamp")
            ELSE tstzrange(
                date_trunc(held.time_window, NEW."timestamp", 'UTC'),
                (date_trunc(held.time_window, NEW."timestamp" AT TIME ZONE 'UTC') + ('1 ' || held.time_window)::interval) AT TIME ZONE 'UTC')
        END;
        SELECT coalesce(sum(u.quantity), 0) INTO used FROM billing.usage_events u
        WHERE u.org_id = NEW.org_id AND u.service = NEW.service AND u."timestamp" >= lower(span) AND u."timestamp" < upper(span);
        IF used + NEW.quantity > held.ends THEN
            RAISE EXCEPTION 'quota exceeded: % of % % a % are used, % more do not fit', used, held.ends, NEW.service, held.time_window,
                NEW.quantity USING ERRCODE = 'WB003', HINT = 'Raise the quota, or record the usage behind an override.';
        END IF;
    END LOOP;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION billing.hold_quotas() FROM PUBLIC;
CREATE TRIGGER usage_events_hold_quotas BEFORE INSERT ON billing.usage_events
    FOR EACH ROW WHEN (NEW.quantity > 0 AND current_setting('weighbridge.batch', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION billing.hold_quotas();

-- As before, but rows that move into their partition were judged when they came.
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
        PERFORM set_config('weighbridge.batch', 'on', true);
        INSERT INTO billing.usage_events SELECT * FROM pg_temp.usage_events_moving;
        PERFORM set_config('weighbridge.batch', '', true);
        DROP TABLE pg_temp.usage_events_moving;
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
