-- What happens, told to others: events, who wants them, and how far telling them has come. Events are written by triggers, in the
-- transaction of the change: what is undone is told to nobody, and nothing is forgotten, whichever program or hand makes the change.

-- Where events go. Deleting one ends what it still had to be told.
CREATE TABLE billing.hook_endpoints (
    id text PRIMARY KEY CHECK (id ~ '^hook_[0-9a-z]{8,40}$'),
    org_id uuid REFERENCES billing.organizations (id), -- whose events; null: everybody's
    url text NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    types text[] NOT NULL CHECK (cardinality(types) > 0), -- invoice.paid, invoice.*, or *
    description text NOT NULL DEFAULT '',
    created_by text NOT NULL CHECK (created_by <> ''),
    created_at timestamptz NOT NULL,
    failing_since timestamptz, -- the first attempt that failed since one succeeded
    disabled_at timestamptz,
    disabled_reason text,
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);
CREATE INDEX hook_endpoints_org ON billing.hook_endpoints (org_id);
SELECT billing.hold_rows('billing.hook_endpoints');

-- What signs. They must be known as they are; no role that answers an organization's requests may read them.
CREATE TABLE billing.hook_secrets (
    endpoint_id text NOT NULL REFERENCES billing.hook_endpoints (id) ON DELETE CASCADE,
    secret bytea NOT NULL CHECK (length(secret) BETWEEN 24 AND 64),
    created_at timestamptz NOT NULL,
    expires_at timestamptz, -- set when another takes its place
    PRIMARY KEY (endpoint_id, secret)
);

CREATE TABLE billing.hook_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message text NOT NULL UNIQUE DEFAULT 'evt_' || replace(gen_random_uuid()::text, '-', ''), -- webhook-id, the same at every attempt
    org_id uuid REFERENCES billing.organizations (id), -- whom it is about; null: nobody, a test of the installation's own endpoint
    type text NOT NULL CHECK (type ~ '^[a-z_]+\.[a-z_]+$'), -- billing/model/hook.py
    identifier text UNIQUE, -- of what may be found more than once, and is told once
    happened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    data jsonb NOT NULL
);
CREATE INDEX hook_events_org ON billing.hook_events (org_id, id);
CREATE INDEX hook_events_at ON billing.hook_events (happened_at);
SELECT billing.hold_rows('billing.hook_events');

CREATE TABLE billing.hook_deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id bigint NOT NULL REFERENCES billing.hook_events (id) ON DELETE CASCADE,
    endpoint_id text NOT NULL REFERENCES billing.hook_endpoints (id) ON DELETE CASCADE,
    org_id uuid REFERENCES billing.organizations (id), -- the endpoint's
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0, -- since it was written or replayed
    next_attempt_at timestamptz, -- null: at once
    tried_at timestamptz,
    answer integer, -- the last attempt's status; null: there was no answer
    error text, -- why the last attempt failed
    UNIQUE (event_id, endpoint_id)
);
CREATE INDEX hook_deliveries_due ON billing.hook_deliveries (endpoint_id, next_attempt_at) WHERE state = 'waiting';
CREATE INDEX hook_deliveries_endpoint ON billing.hook_deliveries (endpoint_id, id);
SELECT billing.hold_rows('billing.hook_deliveries');

-- A delivery for each endpoint that wants the event.
CREATE FUNCTION billing.spread_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.type = 'hook.test' THEN -- meant for one, and given to it by who wrote it
        RETURN NULL;
    END IF;
    INSERT INTO billing.hook_deliveries (event_id, endpoint_id, org_id)
    SELECT NEW.id, e.id, e.org_id
    FROM billing.hook_endpoints e
    WHERE e.disabled_at IS NULL AND (e.org_id IS NULL OR e.org_id = NEW.org_id)
        AND e.types && ARRAY['*', split_part(NEW.type, '.', 1) || '.*', NEW.type];
    RETURN NULL;
END $$;
CREATE TRIGGER spread AFTER INSERT ON billing.hook_events FOR EACH ROW EXECUTE FUNCTION billing.spread_event();

-- What every event says of whom it is about, and what it is about under its name.
CREATE FUNCTION billing.tell(what text, org uuid, about text, facts jsonb, beside jsonb DEFAULT '{}') RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO billing.hook_events (org_id, type, data)
    SELECT o.id, what, jsonb_build_object('org', jsonb_build_object('id', o.id, 'slug', o.slug), about, facts) || beside
    FROM billing.organizations o
    WHERE o.id = org
$$;

CREATE FUNCTION billing.subscription_facts(s billing.subscriptions) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT jsonb_build_object(
        'id', s.id, 'plan', s.plan, 'plan_version', s.plan_version, 'status', s.status, 'currency', s.currency, 'amount', s.amount::text,
        'interval', s.billing_interval, 'interval_count', s.interval_count, 'period_start', s.period_start, 'period_end', s.period_end,
        'trial_end', s.trial_end, 'next_plan', s.next_plan, 'cancel_at', s.cancel_at, 'cancel_reason', s.cancel_reason,
        'auto_renew', s.auto_renew, 'ended_at', s.ended_at
    )
$$;

CREATE FUNCTION billing.tell_subscription() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    becomes jsonb := billing.subscription_facts(NEW);
    was jsonb;
    previous jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM billing.tell('subscription.created', NEW.org_id, 'subscription', becomes);
        RETURN NULL;
    END IF;
    was := billing.subscription_facts(OLD);
    previous := billing.differing(was, becomes);
    IF previous IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM billing.tell(
        CASE
            WHEN NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL THEN 'subscription.ended'
            WHEN previous - ARRAY['period_start', 'period_end'] = '{}' AND NEW.period_start > OLD.period_start THEN 'subscription.renewed'
            ELSE 'subscription.changed'
        END,
        NEW.org_id, 'subscription', becomes, jsonb_build_object('previous', previous)
    );
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON billing.subscriptions FOR EACH ROW EXECUTE FUNCTION billing.tell_subscription();

CREATE FUNCTION billing.invoice_facts(i billing.invoices) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT jsonb_build_object(
        'id', i.id, 'number', i.number, 'status', i.status, 'issuer', i.issuer, 'currency', i.currency, 'subtotal', i.subtotal::text,
        'tax', i.tax::text, 'total', i.total::text, 'amount_due', i.amount_due::text, 'amount_paid', i.amount_paid::text,
        'period_start', i.period_start, 'period_end', i.period_end, 'finalized_at', i.finalized_at, 'due_at', i.due_at,
        'paid_at', i.paid_at
    )
$$;

-- An invoice that is written as paid was final first.
CREATE FUNCTION billing.tell_invoice() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text := CASE WHEN TG_OP = 'UPDATE' THEN OLD.status ELSE 'draft' END;
BEGIN
    IF NEW.status = before THEN
        RETURN NULL;
    END IF;
    IF before = 'draft' AND NEW.status <> 'void' THEN
        PERFORM billing.tell('invoice.finalized', NEW.org_id, 'invoice', billing.invoice_facts(NEW));
    END IF;
    IF NEW.status IN ('paid', 'void', 'uncollectible') THEN
        PERFORM billing.tell(
            CASE NEW.status WHEN 'paid' THEN 'invoice.paid' WHEN 'void' THEN 'invoice.voided' ELSE 'invoice.uncollectible' END,
            NEW.org_id, 'invoice', billing.invoice_facts(NEW)
        );
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OF status ON billing.invoices FOR EACH ROW EXECUTE FUNCTION billing.tell_invoice();

-- Each attempt to charge an invoice that failed, whoever made it: as the customer is told.
CREATE FUNCTION billing.tell_failure() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM billing.tell(
        'invoice.payment_failed', NEW.org_id, 'invoice', billing.invoice_facts(i),
        jsonb_build_object('attempt', NEW.failures, 'reason', NEW.reason)
    )
    FROM billing.invoices i
    WHERE i.id = NEW.invoice_id;
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER UPDATE ON billing.dunning
    FOR EACH ROW WHEN (NEW.failures > OLD.failures) EXECUTE FUNCTION billing.tell_failure();

CREATE FUNCTION billing.method_facts(m billing.payment_methods) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'id', m.id, 'type', m.type, 'brand', m.brand, 'last4', m.last4, 'exp_month', m.exp_month, 'exp_year', m.exp_year
    )
$$;

CREATE FUNCTION billing.tell_method() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND (TG_OP = 'DELETE' OR NEW.org_id <> OLD.org_id) THEN
        PERFORM billing.tell('payment_method.removed', OLD.org_id, 'payment_method', billing.method_facts(OLD));
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND NEW.org_id <> OLD.org_id) THEN
        PERFORM billing.tell('payment_method.added', NEW.org_id, 'payment_method', billing.method_facts(NEW));
    ELSIF TG_OP = 'UPDATE' AND billing.method_facts(NEW) <> billing.method_facts(OLD) THEN
        PERFORM billing.tell('payment_method.changed', NEW.org_id, 'payment_method', billing.method_facts(NEW));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON billing.payment_methods
    FOR EACH ROW EXECUTE FUNCTION billing.tell_method();

REVOKE EXECUTE ON FUNCTION billing.spread_event(), billing.tell(text, uuid, text, jsonb, jsonb), billing.tell_subscription(),
    billing.tell_invoice(), billing.tell_failure(), billing.tell_method() FROM PUBLIC;

-- Whether somebody listens and to what is decided by people; how it goes is bookkeeping. The secrets are in nobody's log.
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF url, types, description, disabled_at ON billing.hook_endpoints
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('hook', 'id', 'created_at failing_since');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.hook_secrets
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('hook_secret', 'endpoint_id', 'secret created_at');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.hook_endpoints FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('hook');
