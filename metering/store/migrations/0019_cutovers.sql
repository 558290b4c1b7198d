-- From one side of Stripe to the next: what was told to the side before is kept, and the outbox begins anew.

CREATE TABLE billing.cutovers (
    id bigserial PRIMARY KEY,
    from_mode text NOT NULL,
    from_account text,
    to_mode text NOT NULL,
    to_account text,
    at timestamptz NOT NULL
);

-- Rows of the outbox that were told to an earlier side.
CREATE TABLE billing.outbox_before (
    cutover_id bigint NOT NULL REFERENCES billing.cutovers (id),
    id bigint NOT NULL,
    kind text NOT NULL,
    org_id uuid NOT NULL REFERENCES billing.organizations (id),
    identifier text NOT NULL,
    payload jsonb NOT NULL,
    state text NOT NULL,
    attempts integer NOT NULL,
    last_error text,
    created_at timestamptz NOT NULL,
    delivered_at timestamptz,
    PRIMARY KEY (cutover_id, id)
);
CREATE INDEX outbox_before_org ON billing.outbox_before (org_id);
SELECT billing.hold_rows('billing.outbox_before');
