-- What a period's plan gave on each meter that carries units over, and what was carried into it (billing/model/rollover.py).
CREATE TABLE billing.rollovers (
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    meter text NOT NULL,
    period_start timestamptz NOT NULL,
    base bigint NOT NULL CHECK (base >= 0),
    carried bigint NOT NULL CHECK (carried >= 0),
    PRIMARY KEY (org_id, meter, period_start)
);
SELECT billing.hold_rows('billing.rollovers');
