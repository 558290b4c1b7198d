-- The audit log, read only: triggers write it (metering/store/migrations/0010_audit.sql). Read by billing/store/audit.py.

-- entries --
-- The newest, in the order they happened. $1 org, or null for all; $2 not before, $3 at most so many, $4 those before this one, or null
SELECT * FROM (
    SELECT a.id, a.at, a.actor, a.login, a.program, a.action, a.org_id, o.slug, a.subject, a.before, a.after
    FROM billing.audit_log a LEFT JOIN billing.organizations o ON o.id = a.org_id
    WHERE ($1::uuid IS NULL OR a.org_id = $1) AND a.at >= $2 AND ($4::bigint IS NULL OR a.id < $4)
    ORDER BY a.id DESC
    LIMIT $3
) newest
ORDER BY id
