-- Invoices that can be written, numbered, paid, credited and closed here, or mirror those that Stripe wrote.

ALTER TABLE billing.invoices
    ADD COLUMN issuer text NOT NULL DEFAULT 'weighbridge' CHECK (issuer IN ('weighbridge', 'stripe')),
    ADD COLUMN identifier text UNIQUE CHECK (length(identifier) BETWEEN 1 AND 200), -- what it is the invoice of; written once
    ADD COLUMN number text UNIQUE, -- given when it becomes final, without a gap
    ADD COLUMN discount numeric NOT NULL DEFAULT 0,
    ADD COLUMN credit numeric NOT NULL DEFAULT 0, -- credits and balance that took over part of the total
    ADD COLUMN amount_due numeric NOT NULL DEFAULT 0,
    ADD COLUMN amount_paid numeric NOT NULL DEFAULT 0,
    ADD COLUMN credited numeric NOT NULL DEFAULT 0, -- what credit notes let off what is due
    ADD COLUMN carried numeric NOT NULL DEFAULT 0, -- what lay below zero, and went to the balance
    ADD COLUMN tax_rate numeric NOT NULL DEFAULT 0,
    ADD COLUMN tax_inclusive boolean NOT NULL DEFAULT false,
    ADD COLUMN finalized_at timestamptz, -- the date that stands on it
    ADD COLUMN closed_at timestamptz, -- voided, or given up
    ADD COLUMN attempt_count integer NOT NULL DEFAULT 0, -- of charging it
    ADD COLUMN next_retry timestamptz,
    ADD COLUMN stripe_id text UNIQUE,
    ADD COLUMN payment_method text, -- Visa ending in 4242
    ADD COLUMN seller jsonb NOT NULL DEFAULT '{}', -- as they were when it became final
    ADD COLUMN buyer jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT invoices_draft_has_no_number CHECK (status <> 'draft' OR number IS NULL);
CREATE INDEX invoices_dated ON billing.invoices (finalized_at);
CREATE INDEX invoices_to_pay ON billing.invoices (next_retry) WHERE status = 'open';

ALTER TABLE billing.invoice_lines
    ALTER COLUMN unit_price DROP NOT NULL, -- null where tiers decide
    ADD COLUMN kind text NOT NULL DEFAULT 'usage' CHECK (kind IN (
        'base', 'proration', 'overage', 'usage', 'minimum', 'late', 'correction', 'one_time', 'discount', 'tax', 'credit')),
    ADD COLUMN period_start timestamptz,
    ADD COLUMN period_end timestamptz,
    ADD COLUMN item_id bigint REFERENCES billing.invoice_items (id),
    ADD COLUMN reference text, -- the item's identifier, the coupon, the grant
    ADD COLUMN evidence jsonb NOT NULL DEFAULT '{}';
CREATE UNIQUE INDEX invoice_lines_item ON billing.invoice_lines (item_id) WHERE item_id IS NOT NULL; -- an item is billed once

-- The last number given. The row is locked by the transaction that makes an invoice final: one that is undone gives its number back.
CREATE TABLE billing.invoice_counters (
    name text PRIMARY KEY CHECK (name IN ('invoice', 'credit_note')),
    prefix text NOT NULL CHECK (prefix ~ '^[A-Za-z0-9][A-Za-z0-9/._-]{0,15}$'),
    last bigint NOT NULL DEFAULT 0 CHECK (last >= 0)
);
INSERT INTO billing.invoice_counters (name, prefix) VALUES ('invoice', 'INV'), ('credit_note', 'CN');

-- What stands on every invoice: who writes it.
CREATE TABLE billing.invoice_settings (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    company_name text NOT NULL DEFAULT '',
    company_address text NOT NULL DEFAULT '',
    company_email text NOT NULL DEFAULT '',
    company_tax_id text NOT NULL DEFAULT '',
    footer text NOT NULL DEFAULT '',
    due_days integer NOT NULL DEFAULT 0 CHECK (due_days BETWEEN 0 AND 365),
    logo bytea CHECK (length(logo) <= 1048576), -- fetched once, and kept
    logo_url text,
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO billing.invoice_settings DEFAULT VALUES;

CREATE TABLE billing.credit_notes (
    id text PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    invoice_id text NOT NULL REFERENCES billing.invoices (id),
    number text UNIQUE, -- null where Stripe wrote it without one
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    subtotal numeric NOT NULL,
    tax numeric NOT NULL DEFAULT 0,
    total numeric NOT NULL CHECK (total >= 0),
    off_due numeric NOT NULL DEFAULT 0,
    refunded numeric NOT NULL DEFAULT 0,
    to_balance numeric NOT NULL DEFAULT 0,
    reason text NOT NULL CHECK (reason <> ''),
    stripe_id text UNIQUE,
    created_at timestamptz NOT NULL,
    CHECK (total = off_due + refunded + to_balance)
);
CREATE INDEX credit_notes_invoice ON billing.credit_notes (invoice_id);
CREATE INDEX credit_notes_org ON billing.credit_notes (org_id, created_at);
SELECT billing.hold_rows('billing.credit_notes');

CREATE TABLE billing.credit_note_lines (
    credit_note_id text NOT NULL REFERENCES billing.credit_notes (id),
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    position integer NOT NULL, -- the row of the invoice
    description text NOT NULL,
    amount numeric NOT NULL CHECK (amount > 0),
    PRIMARY KEY (credit_note_id, position)
);
CREATE INDEX credit_note_lines_org ON billing.credit_note_lines (org_id);
SELECT billing.hold_rows('billing.credit_note_lines');

-- Money that came in for an invoice, and that went back. One row each; `reference` names it where it happened.
CREATE TABLE billing.receipts (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    invoice_id text NOT NULL REFERENCES billing.invoices (id),
    kind text NOT NULL CHECK (kind IN ('payment', 'refund')),
    amount numeric NOT NULL CHECK (amount > 0),
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    method text NOT NULL DEFAULT '', -- Visa ending in 4242; by hand
    reference text NOT NULL CHECK (reference <> ''),
    at timestamptz NOT NULL,
    UNIQUE (invoice_id, kind, reference)
);
CREATE INDEX receipts_org ON billing.receipts (org_id, at);
CREATE INDEX receipts_at ON billing.receipts (at);
SELECT billing.hold_rows('billing.receipts');

-- What a customer is owed beside credits it was granted: what invoices below zero and credit notes left, and what invoices took of it.
CREATE TABLE billing.balance_entries (
    id bigserial PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    identifier text NOT NULL UNIQUE,
    amount numeric NOT NULL CHECK (amount <> 0), -- above zero: in the customer's favour
    invoice_id text NOT NULL REFERENCES billing.invoices (id),
    at timestamptz NOT NULL
);
CREATE INDEX balance_entries_org ON billing.balance_entries (org_id, currency);
SELECT billing.hold_rows('billing.balance_entries');

-- How far an organization's usage periods were billed here. No row: nobody has looked yet.
CREATE TABLE billing.invoicing (
    org_id uuid PRIMARY KEY REFERENCES billing.organizations (id),
    since timestamptz NOT NULL, -- no period that started before this is billed here
    billed_until timestamptz NOT NULL, -- the end of the last period that was rated
    next_at timestamptz NOT NULL -- when there is something to do again
);
CREATE INDEX invoicing_next ON billing.invoicing (next_at);
SELECT billing.hold_rows('billing.invoicing');

-- A usage period as it was billed: by which terms, how much usage, for what amounts. Usage that arrives afterwards is the difference.
CREATE TABLE billing.rated_periods (
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    terms jsonb NOT NULL,
    used jsonb NOT NULL, -- meter -> base units
    amounts jsonb NOT NULL, -- line -> amount, all that was ever billed for it
    revision integer NOT NULL DEFAULT 1, -- raised by each bill of late usage
    rated_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, period_start)
);
CREATE INDEX rated_periods_end ON billing.rated_periods (period_end);
SELECT billing.hold_rows('billing.rated_periods');

-- By which terms an organization's usage is billed, as they stood until `until_at`. The present ones are in its subscription.
CREATE TABLE billing.terms_kept (
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    until_at timestamptz NOT NULL,
    terms jsonb NOT NULL,
    PRIMARY KEY (org_id, until_at)
);
SELECT billing.hold_rows('billing.terms_kept');

-- Months that are closed: nothing dated in one of them changes any more.
CREATE TABLE billing.closed_months (
    month date PRIMARY KEY CHECK (extract(day FROM month) = 1),
    closed_at timestamptz NOT NULL,
    figures jsonb NOT NULL -- what was found to tie out
);

CREATE FUNCTION billing.closed_until() RETURNS timestamptz LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((max(month) + interval '1 month') AT TIME ZONE 'UTC', '-infinity') FROM billing.closed_months
$$;

CREATE FUNCTION billing.refuse_closed(what text, at timestamptz) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF at < billing.closed_until() THEN
        RAISE EXCEPTION '% is dated %, in a month that is closed', what, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
            USING ERRCODE = 'WB001', HINT = 'Correct it in the month that is open: a credit note, or a line of the next invoice.';
    END IF;
END $$;

-- One that is final keeps what it says, whoever asks; of Stripe's the mirror may follow. Payment and collection go on.
CREATE FUNCTION billing.keep_invoice() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moving text[] := ARRAY['status', 'amount_paid', 'credited', 'paid_at', 'closed_at', 'attempt_count', 'next_retry', 'payment_method',
        'stripe_id'];
BEGIN
    IF TG_OP <> 'INSERT' THEN
        IF OLD.issuer = 'weighbridge' AND OLD.status <> 'draft'
            AND (TG_OP = 'DELETE' OR to_jsonb(OLD) - moving IS DISTINCT FROM to_jsonb(NEW) - moving) THEN
            RAISE EXCEPTION 'invoice % is final: correct it by a credit note, or a line of the next invoice', coalesce(OLD.number, OLD.id)
                USING ERRCODE = 'WB002';
        END IF;
        IF OLD.finalized_at IS NOT NULL AND (TG_OP = 'DELETE' OR NEW.total <> OLD.total OR NEW.finalized_at <> OLD.finalized_at
            OR (NEW.status = 'void' AND OLD.status <> 'void')) THEN
            PERFORM billing.refuse_closed('invoice ' || coalesce(OLD.number, OLD.id), OLD.finalized_at);
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.finalized_at IS NOT NULL
        AND (TG_OP = 'INSERT' OR NEW.finalized_at IS DISTINCT FROM OLD.finalized_at) THEN
        PERFORM billing.refuse_closed('invoice ' || coalesce(NEW.number, NEW.id), NEW.finalized_at);
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE ON billing.invoices FOR EACH ROW EXECUTE FUNCTION billing.keep_invoice();

CREATE FUNCTION billing.keep_invoice_line() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    its record;
BEGIN
    SELECT i.id, i.number, i.issuer, i.status, i.finalized_at INTO its FROM billing.invoices i
    WHERE i.id = CASE TG_OP WHEN 'INSERT' THEN NEW.invoice_id ELSE OLD.invoice_id END;
    IF TG_OP <> 'INSERT' AND its.issuer = 'weighbridge' AND its.status <> 'draft' THEN
        RAISE EXCEPTION 'invoice % is final: its lines stay', coalesce(its.number, its.id) USING ERRCODE = 'WB002';
    END IF;
    IF its.finalized_at IS NOT NULL THEN
        PERFORM billing.refuse_closed('invoice ' || coalesce(its.number, its.id), its.finalized_at);
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE ON billing.invoice_lines
    FOR EACH ROW EXECUTE FUNCTION billing.keep_invoice_line();

-- Receipts, credit notes and balances are written once; a mirror of Stripe's may follow it.
CREATE FUNCTION billing.keep_dated() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND to_jsonb(OLD) ->> 'stripe_id' IS NULL THEN
        RAISE EXCEPTION 'billing.% is append-only: correct a row by another', TG_TABLE_NAME USING ERRCODE = 'WB002';
    END IF;
    IF TG_OP = 'DELETE' THEN
        PERFORM billing.refuse_closed('a row of billing.' || TG_TABLE_NAME, (to_jsonb(OLD) ->> TG_ARGV[0])::timestamptz);
        RETURN OLD;
    END IF;
    PERFORM billing.refuse_closed('a row of billing.' || TG_TABLE_NAME, (to_jsonb(NEW) ->> TG_ARGV[0])::timestamptz);
    RETURN NEW;
END $$;
CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE ON billing.receipts FOR EACH ROW EXECUTE FUNCTION billing.keep_dated('at');
CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE ON billing.balance_entries FOR EACH ROW EXECUTE FUNCTION billing.keep_dated('at');
CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE ON billing.credit_notes FOR EACH ROW EXECUTE FUNCTION billing.keep_dated('created_at');

-- What a person decides about invoices.
CREATE TRIGGER audit AFTER UPDATE OF status ON billing.invoices
    FOR EACH ROW WHEN (NEW.status IN ('void', 'uncollectible')) EXECUTE FUNCTION billing.audit_row(
        'invoice', 'id', 'created_at seller buyer identifier');
CREATE TRIGGER audit AFTER INSERT ON billing.credit_notes FOR EACH ROW EXECUTE FUNCTION billing.audit_row('credit_note', 'id', 'created_at');
CREATE TRIGGER audit AFTER UPDATE ON billing.invoice_settings
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('invoice_settings', 'one', 'logo updated_at');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON billing.closed_months
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('month', 'month', 'figures');
CREATE TRIGGER audit AFTER UPDATE OF prefix ON billing.invoice_counters
    FOR EACH ROW EXECUTE FUNCTION billing.audit_row('invoice_counter', 'name', 'last');
