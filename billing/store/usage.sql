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

-- of_range --
-- By whole hours; levels stand elsewhere. $1 org, $2 from, $3 to
SELECT service, sum(quantity)::bigint AS quantity FROM billing.usage_hourly WHERE org_id = $1 AND hour >= $2 AND hour < $3 GROUP BY service

-- levels_over --
-- The mean of each level, weighted by time. $1 org, $2 from, $3 to
SELECT s.service, (billing.level_over($1, s.service, $2, $3)).mean AS mean
FROM (SELECT DISTINCT service FROM billing.levels_current WHERE org_id = $1) s

-- by_endpoint --
-- As far as it was flushed. $1 org, $2 service, $3 from (an hour), $4 to, $5 start of the period, where it is one
WITH used AS (
    SELECT route_id, method, sum(quantity)::bigint AS units FROM billing.usage_hourly
    WHERE org_id = $1 AND service = $2 AND hour >= $3 AND hour < $4 AND ($5::timestamptz IS NULL OR period_start = $5)
    GROUP BY route_id, method
), traffic AS (
    SELECT route_id, method, sum(duration_ms)::bigint AS duration_ms, sum(status_4xx + status_5xx)::bigint AS errors,
           sum(status_1xx + status_2xx + status_3xx + status_4xx + status_5xx)::bigint AS calls
    FROM billing.traffic_hourly WHERE org_id = $1 AND hour >= $3 AND hour < $4
    GROUP BY route_id, method
)
SELECT r.template, r.host, u.method, u.units, coalesce(t.calls, 0) AS calls, coalesce(t.duration_ms, 0) AS duration_ms,
       coalesce(t.errors, 0) AS errors
FROM used u
LEFT JOIN traffic t ON t.route_id = u.route_id AND t.method = u.method
LEFT JOIN billing.routes r ON r.id = u.route_id
ORDER BY u.units DESC, r.template, u.method

-- parts_held --
-- Of a level, now. $1 org, $2 service
SELECT part, quantity AS units FROM billing.levels_current WHERE org_id = $1 AND service = $2 ORDER BY quantity DESC, part

-- by_dimensions --
-- $1 org, $2 service, $3 from, $4 to, $5 start of the period, where it is one
SELECT (dimensions - 'tenant')::text AS part, sum(quantity)::bigint AS units FROM billing.usage_hourly
WHERE org_id = $1 AND service = $2 AND hour >= $3 AND hour < $4 AND ($5::timestamptz IS NULL OR period_start = $5)
GROUP BY part
ORDER BY units DESC, part

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
