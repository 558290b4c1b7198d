-- Overrides say all that plans may: throttles, stops and shadows of quotas, rates, calls in flight.

ALTER TABLE billing.quotas DROP CONSTRAINT quotas_mode_check;
ALTER TABLE billing.quotas ADD CONSTRAINT quotas_mode_check CHECK (mode IN ('hard', 'soft', 'overage', 'throttle'));
ALTER TABLE billing.quotas DROP CONSTRAINT quotas_per_check;
ALTER TABLE billing.quotas ADD CONSTRAINT quotas_per_check CHECK (per IN ('org', 'route', 'key', 'tenant'));
ALTER TABLE billing.quotas ADD COLUMN terms jsonb NOT NULL DEFAULT '{}'; -- billing/model/limits.py, terms_to_json

-- One organization's rates and calls in flight in place of its plan's, until an instant.
CREATE TABLE billing.override_limits (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    kind text NOT NULL CHECK (kind IN ('rate', 'concurrency')),
    slot text NOT NULL, -- what it stands in for: the limit's name
    terms jsonb NOT NULL, -- billing/model/limits.py, rate_to_json or concurrency_to_json
    reason text NOT NULL CHECK (reason <> ''),
    until timestamptz,
    managed_by text NOT NULL CHECK (managed_by IN ('file', 'api')),
    created_at timestamptz NOT NULL,
    UNIQUE (org_id, managed_by, kind, slot)
);
