-- What a key may do and how much, client certificates beside keys, and which key stands in for which.
ALTER TABLE billing.api_keys
    ADD COLUMN kind text NOT NULL DEFAULT 'key' CHECK (kind IN ('key', 'cert')), -- cert: sha256 is the certificate's fingerprint
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{}',
    ADD COLUMN limits jsonb NOT NULL DEFAULT '{}', -- {"quotas": […], "rates": […]} in the form of plan versions; each per key
    ADD COLUMN replaced_by bigint REFERENCES billing.api_keys (id); -- set by a rotation
