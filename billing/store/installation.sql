-- Which side of Stripe the ids in this database are from. Read by billing/stripe/installation.py.

-- stamp --
-- The first one stands; an account that was not known yet is added. $1 sandbox, test or live, $2 now, $3 account or null
INSERT INTO billing.installation (stripe_mode, stamped_at, account) VALUES ($1, $2, $3)
ON CONFLICT (one) DO UPDATE SET account = excluded.account
WHERE installation.account IS NULL AND excluded.account IS NOT NULL AND installation.stripe_mode = excluded.stripe_mode

-- stamped --
SELECT stripe_mode, account FROM billing.installation
