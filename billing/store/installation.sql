-- Which side of Stripe the ids in this database are from. Read by billing/stripe/installation.py.

-- stamp --
-- The first one stands. $1 sandbox, test or live, $2 now
INSERT INTO billing.installation (stripe_mode, stamped_at) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- stamped --
SELECT stripe_mode FROM billing.installation
