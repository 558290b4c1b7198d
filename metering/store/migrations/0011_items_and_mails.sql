-- What waits to be billed, and mails that must go out: each written in the transaction that causes it, once.

CREATE TABLE billing.invoice_items (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    identifier text NOT NULL UNIQUE CHECK (length(identifier) BETWEEN 1 AND 200),
    kind text NOT NULL CHECK (kind IN ('base', 'proration', 'overage', 'usage', 'minimum', 'late', 'correction', 'one_time')),
    description text NOT NULL CHECK (description <> ''),
    quantity numeric NOT NULL,
    unit_price numeric, -- null where tiers decide
    amount numeric NOT NULL, -- rounded once, half away from zero, to the currency's minor unit; below zero where it is given back
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL CHECK (period_end >= period_start),
    meter text,
    evidence jsonb NOT NULL DEFAULT '{}', -- what the amount comes from
    invoice_id text REFERENCES billing.invoices (id), -- null while it waits
    created_at timestamptz NOT NULL
);
CREATE INDEX invoice_items_waiting ON billing.invoice_items (org_id, id) WHERE invoice_id IS NULL;
CREATE INDEX invoice_items_invoice ON billing.invoice_items (invoice_id) WHERE invoice_id IS NOT NULL;
SELECT billing.hold_rows('billing.invoice_items');

CREATE TABLE billing.mails (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    identifier text NOT NULL UNIQUE CHECK (length(identifier) BETWEEN 1 AND 200),
    kind text NOT NULL, -- billing/model/mail.py, MailKind
    recipient text, -- null: the customer's address when it goes out
    facts jsonb NOT NULL DEFAULT '{}',
    due_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'dropped', 'dead')),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_error text,
    created_at timestamptz NOT NULL,
    closed_at timestamptz -- when it was sent, dropped or given up
);
CREATE INDEX mails_due ON billing.mails (due_at) WHERE state = 'waiting';
CREATE INDEX mails_org ON billing.mails (org_id, id);
SELECT billing.hold_rows('billing.mails');
