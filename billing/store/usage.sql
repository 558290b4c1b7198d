-- What was used, as the ledger has it. Read by billing/store/usage.py.

-- of_period --
-- $1 org, $2 start of the period
SELECT service, cumulative FROM billing.usage_period WHERE org_id = $1 AND period_start = $2
