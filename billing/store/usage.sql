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

-- offsets --
-- What lies in a period and not in a window, less what lies in the window and not in the period; in the order asked.
-- $1 orgs, $2 services, $3 starts of the windows, $4 starts of the periods
SELECT w.place,
       (coalesce(sum(h.quantity) FILTER (WHERE h.period_start = w.period_start AND h.hour < w.start), 0)
        - coalesce(sum(h.quantity) FILTER (WHERE h.period_start <> w.period_start AND h.hour >= w.start), 0))::bigint AS units
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[]) WITH ORDINALITY AS w (org_id, service, start, period_start, place)
LEFT JOIN billing.usage_hourly h
    ON h.org_id = w.org_id AND h.service = w.service AND h.hour >= least(w.start, date_trunc('hour', w.period_start, 'UTC'))
GROUP BY w.place
ORDER BY w.place
