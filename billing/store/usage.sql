-- What was used, as the ledger has it. Read by billing/store/usage.py.

-- of_period --
-- $1 org, $2 start of the period
SELECT service, cumulative FROM billing.usage_period WHERE org_id = $1 AND period_start = $2

-- of_windows --
-- $1 org, $2 start of the hour, $3 of the day, $4 of the calendar month; no window reaches further back than the month
SELECT service,
       coalesce(sum(quantity) FILTER (WHERE hour >= $2), 0)::bigint AS in_hour,
       coalesce(sum(quantity) FILTER (WHERE hour >= $3), 0)::bigint AS in_day,
       coalesce(sum(quantity), 0)::bigint AS in_month
FROM billing.usage_hourly
WHERE org_id = $1 AND hour >= $4
GROUP BY service

-- of_tenants --
-- As far as it was flushed. $1 org, $2 start of the period
SELECT dimensions ->> 'tenant' AS tenant, service, sum(quantity)::bigint AS quantity
FROM billing.usage_hourly
WHERE org_id = $1 AND period_start = $2 AND dimensions ? 'tenant'
GROUP BY tenant, service
