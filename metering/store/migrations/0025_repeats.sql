-- What was asked under an Idempotency-Key, and how it was answered: a change that is asked for again is answered again, not made again.
--
-- `id` is a hash over the caller's credential and the key; the answer is sealed with both, so that what is told once (a token, a secret)
-- can be read here by nobody. Kept for a day.
CREATE TABLE billing.repeats (
    id bytea PRIMARY KEY,
    fingerprint bytea NOT NULL, -- of what was asked: method, path, body
    begun_at timestamptz NOT NULL,
    status smallint, -- of the answer; null: there is none yet
    answer bytea,
    failed boolean NOT NULL DEFAULT false -- it ended in a fault of ours, and nobody knows whether the change was made
);
CREATE INDEX repeats_begun ON billing.repeats (begun_at);
