-- Organizations, and all that decides what they may do. Read by billing/store/orgs.py.

-- insert --
-- $1 id, $2 slug, $3 name, $4 created at. Returns the id, or nothing where the slug is taken.
INSERT INTO billing.organizations (id, slug, name, created_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (slug) WHERE deleted_at IS NULL DO NOTHING
RETURNING id

-- find --
-- $1 id or null, $2 slug
SELECT id, slug, name, ent_version, created_at
FROM billing.organizations
WHERE deleted_at IS NULL AND (id = $1::uuid OR slug = $2)

-- find_locked --
-- $1 id or null, $2 slug
SELECT id, slug, name, ent_version, created_at
FROM billing.organizations
WHERE deleted_at IS NULL AND (id = $1::uuid OR slug = $2)
FOR UPDATE

-- living --
-- By slug. $1 how many, or null; $2 of those behind this slug, or null
SELECT o.id, o.slug, o.name, o.ent_version, o.created_at AS org_created_at,
       s.org_id, s.plan, s.plan_version, s.status, s.anchor, s.billing_interval, s.currency, s.amount, s.trial_days,
       s.id AS subscription_id, s.interval_count, s.zone, s.period_start, s.period_end, s.paid, s.next_anchor, s.next_plan,
       s.next_plan_version, s.trial_start, s.trial_end, s.former_plan, s.former_plan_version, s.cancel_at, s.cancel_reason,
       s.canceled_at, s.paused_at, s.auto_renew, s.terms, s.revision, s.ended_at, s.anchored_at
FROM billing.organizations o
LEFT JOIN billing.subscriptions s ON s.org_id = o.id AND s.ended_at IS NULL
WHERE o.deleted_at IS NULL AND ($2::text IS NULL OR o.slug COLLATE "C" > $2)
ORDER BY o.slug COLLATE "C"
LIMIT $1

-- by_slugs --
-- $1 slugs[]
SELECT slug, id FROM billing.organizations WHERE deleted_at IS NULL AND slug = ANY($1::text[])

-- by_ids --
-- $1 ids[]
SELECT id, slug, name, ent_version, created_at FROM billing.organizations WHERE id = ANY($1::uuid[])

-- raise_versions --
-- Locked in the order of ids, so that two changes of many organizations never wait for each other in a ring.
-- $1 ids[]
WITH locked AS (
    SELECT id FROM billing.organizations WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
)
UPDATE billing.organizations o SET ent_version = ent_version + 1 FROM locked WHERE o.id = locked.id

-- mark_deleted --
-- $1 id, $2 when
UPDATE billing.organizations SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL

-- accounts --
-- The latest subscription stands for an organization: the live one, or the last that ended.
-- $1 ids[]
SELECT o.id, o.slug, o.name, o.ent_version, o.created_at AS org_created_at, o.deleted_at,
       s.org_id, s.plan, s.plan_version, s.status, s.anchor, s.billing_interval, s.currency, s.amount, s.trial_days,
       s.id AS subscription_id, s.interval_count, s.zone, s.period_start, s.period_end, s.paid, s.next_anchor, s.next_plan,
       s.next_plan_version, s.trial_start, s.trial_end, s.former_plan, s.former_plan_version, s.cancel_at, s.cancel_reason,
       s.canceled_at, s.paused_at, s.auto_renew, s.terms, s.revision, s.ended_at, s.anchored_at, v.spec
FROM billing.organizations o
LEFT JOIN LATERAL (
    SELECT * FROM billing.subscriptions WHERE org_id = o.id ORDER BY ended_at DESC NULLS FIRST LIMIT 1
) s ON true
LEFT JOIN billing.plan_versions v ON v.plan = s.plan AND v.version = s.plan_version
WHERE o.id = ANY($1::uuid[])
ORDER BY o.id

-- lock --
-- $1 ids[]
SELECT id FROM billing.organizations WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE

-- account_keys --
-- $1 ids[], $2 also those whose revocation was told before
SELECT id, org_id, sha256, hint, label, test, imported, created_at, expires_at, revoked_at, kind, scopes, limits, replaced_by
FROM billing.api_keys
WHERE org_id = ANY($1::uuid[]) AND (revoked_at IS NULL OR withdrawn_at IS NULL OR $2)
ORDER BY id

-- account_quotas --
-- The weaker first: carried over, from the files, set by the API, a cap that was reached.
-- $1 ids[]
SELECT org_id, meter, limit_units, time_window, mode, per, on_store_failure, terms, reason, until, managed_by
FROM billing.quotas
WHERE org_id = ANY($1::uuid[])
ORDER BY org_id, billing.override_rank(managed_by), id

-- account_limits --
-- As the quotas. $1 ids[]
SELECT org_id, kind, terms, reason, until, managed_by
FROM billing.override_limits
WHERE org_id = ANY($1::uuid[])
ORDER BY org_id, managed_by DESC, id

-- unpublished --
-- $1 how many
SELECT id FROM billing.organizations WHERE published_version < ent_version ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED

-- ids_after --
-- The deleted too, so that a store that fell back is told of them again. $1 the last id seen or null, $2 how many
SELECT id FROM billing.organizations
WHERE $1::uuid IS NULL OR id > $1
ORDER BY id LIMIT $2

-- mark_published --
-- $1 ids[], $2 versions[]
UPDATE billing.organizations o SET published_version = told.version
FROM unnest($1::uuid[], $2::bigint[]) AS told (id, version)
WHERE o.id = told.id AND o.published_version < told.version

-- mark_withdrawn --
-- $1 ids[], $2 when
UPDATE billing.api_keys SET withdrawn_at = $2
WHERE org_id = ANY($1::uuid[]) AND revoked_at IS NOT NULL AND withdrawn_at IS NULL
