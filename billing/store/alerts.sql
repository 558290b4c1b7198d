-- Alert rules. Read by billing/store/alerts.py.

-- of_org --
-- $1 org
SELECT service, thresholds, active FROM billing.quota_alerts WHERE org_id = $1 ORDER BY service

-- put --
-- $1 org, $2 service, $3 thresholds, $4 their percents, $5 active
INSERT INTO billing.quota_alerts (org_id, service, thresholds, percents, active) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (org_id, service) DO UPDATE
SET thresholds = excluded.thresholds, percents = excluded.percents, active = excluded.active

-- destinations --
-- $1 org
SELECT destinations FROM billing.alert_destinations WHERE org_id = $1

-- put_destinations --
-- $1 org, $2 destinations, $3 their channels
INSERT INTO billing.alert_destinations (org_id, destinations, channels) VALUES ($1, $2, $3)
ON CONFLICT (org_id) DO UPDATE SET destinations = excluded.destinations, channels = excluded.channels
