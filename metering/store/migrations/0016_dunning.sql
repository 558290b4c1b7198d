-- What was done about invoices that are not paid.

CREATE TABLE billing.dunning (
    invoice_id text PRIMARY KEY REFERENCES billing.invoices (id) ON DELETE CASCADE,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    next_at timestamptz, -- when there is something to do; null: when something is heard of it
    failures integer NOT NULL DEFAULT 0, -- attempts that failed, as far as they were told
    failed_at timestamptz, -- the first: every date is counted from it
    tried_at timestamptz, -- the last
    reason text, -- why that one failed
    marked boolean NOT NULL DEFAULT false, -- the subscription knows
    warned_at timestamptz,
    downgraded_at timestamptz,
    returned_at timestamptz,
    closed_at timestamptz -- paid or void, and everything as before
);
CREATE INDEX dunning_next ON billing.dunning (next_at) WHERE closed_at IS NULL;
CREATE INDEX dunning_org ON billing.dunning (org_id);
SELECT billing.hold_rows('billing.dunning');
