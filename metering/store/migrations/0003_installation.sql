-- What this database belongs to, and a way for a deliverer to what is pending.

-- Which side of Stripe the ids in this database are from. One row, written by the first process that speaks to Stripe and
-- never changed: the sandbox, an account's test mode and its live mode know nothing of each other's customers.
CREATE TABLE billing.installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    stripe_mode text NOT NULL CHECK (stripe_mode IN ('sandbox', 'test', 'live')),
    stamped_at timestamptz NOT NULL
);

-- Rows are claimed in the order of their ids; those delivered are the bulk of the table.
CREATE INDEX outbox_pending ON billing.outbox (id) WHERE state = 'pending';
