-- Which object at Stripe stands for which thing of ours. Read by billing/store/stripe_ids.py; delivery.sql keeps them too.

-- of --
-- $1 kind, $2 key
SELECT stripe_id FROM billing.stripe_objects WHERE kind = $1 AND key = $2

-- key_of --
-- $1 kind, $2 stripe_id
SELECT key FROM billing.stripe_objects WHERE kind = $1 AND stripe_id = $2 ORDER BY key LIMIT 1

-- keep --
-- $1 kind, $2 key, $3 stripe_id, $4 now
INSERT INTO billing.stripe_objects (kind, key, stripe_id, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (kind, key) DO UPDATE SET stripe_id = excluded.stripe_id

-- claim --
-- Of several that want to stand for the same thing, the first does. $1 kind, $2 key, $3 stripe_id, $4 now
INSERT INTO billing.stripe_objects (kind, key, stripe_id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (kind, key) DO NOTHING

-- forget --
-- $1 kind, $2 key
DELETE FROM billing.stripe_objects WHERE kind = $1 AND key = $2
