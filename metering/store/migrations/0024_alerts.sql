-- At which shares of its quotas an organization wants to hear of it, and through which channels.

-- One row a service: [{"percent": 80, "destinations": [{"channel": "email", "target": "…"}]}], lowest first. A share without
-- destinations has those of alert_destinations. Not active: nobody hears of this service's quotas.
CREATE TABLE billing.quota_alerts (
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    service text NOT NULL CHECK (service <> ''),
    thresholds jsonb NOT NULL CHECK (jsonb_typeof(thresholds) = 'array'),
    percents integer[] NOT NULL, -- those of thresholds, for the log
    active boolean NOT NULL,
    PRIMARY KEY (org_id, service)
);
SELECT billing.hold_rows('billing.quota_alerts');

CREATE TABLE billing.alert_destinations (
    org_id uuid PRIMARY KEY REFERENCES billing.organizations (id),
    destinations jsonb NOT NULL CHECK (jsonb_typeof(destinations) = 'array'),
    channels text[] NOT NULL -- those of destinations, for the log
);
SELECT billing.hold_rows('billing.alert_destinations');

-- Where alerts go stays out of the log: the address of a chat's webhook lets whoever has it write there.
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.quota_alerts
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('alert', 'service', 'thresholds');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.alert_destinations
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('alert_destinations', 'org_id', 'destinations');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.quota_alerts FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('alert');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON billing.alert_destinations
    FOR EACH STATEMENT EXECUTE FUNCTION billing.audit_truncate('alert_destinations');
