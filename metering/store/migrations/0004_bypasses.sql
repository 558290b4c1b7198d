-- Break-glass: what was bypassed, by whom, why, and until when. Rows are kept; the gateways hold those in force in wb:bypass.
CREATE TABLE billing.bypasses (
    id bigserial PRIMARY KEY,
    org_id uuid REFERENCES billing.organizations (id), -- null is every organization
    meter text, -- null is every limit
    reason text NOT NULL CHECK (reason <> ''),
    created_by text NOT NULL CHECK (created_by <> ''),
    created_at timestamptz NOT NULL,
    until timestamptz NOT NULL CHECK (until > created_at),
    ended_at timestamptz, -- before its time, by somebody
    ended_by text,
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
CREATE INDEX bypasses_in_force ON billing.bypasses (until) WHERE ended_at IS NULL;
