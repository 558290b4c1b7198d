-- Tokens of the control API: who may read or change what there. Rows are kept, those that are over too.
CREATE TABLE billing.api_tokens (
    id bigserial PRIMARY KEY,
    org_id uuid REFERENCES billing.organizations (id), -- null is every organization
    sha256 text NOT NULL UNIQUE CHECK (sha256 ~ '^[0-9a-f]{64}$'), -- the token itself is never stored
    hint text NOT NULL, -- its last four characters
    label text NOT NULL DEFAULT '',
    scopes text[] NOT NULL CHECK (scopes <@ ARRAY['read', 'billing', 'admin'] AND cardinality(scopes) > 0),
    created_by text NOT NULL CHECK (created_by <> ''),
    created_at timestamptz NOT NULL,
    expires_at timestamptz, -- null: until it is revoked
    revoked_at timestamptz,
    revoked_by text,
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX api_tokens_org ON billing.api_tokens (org_id);
