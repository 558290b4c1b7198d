-- Whom of an organization's own customers usage was for, as its calls named them: the first thousand of a day by name, then
-- "other". Written by aggregator/ledger.py under its bucket's lock, which makes the bound exact; kept for late batches only.
CREATE TABLE billing.tenants (
    org_id uuid NOT NULL,
    day date NOT NULL, -- UTC
    tenant text NOT NULL,
    PRIMARY KEY (org_id, day, tenant)
);
CREATE INDEX tenants_day ON billing.tenants (day);
CREATE INDEX usage_hourly_tenant ON billing.usage_hourly (org_id, period_start) WHERE dimensions ? 'tenant';
