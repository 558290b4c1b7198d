-- Sets of configuration files that were applied. Read by billing/store/config_sets.py.

-- add --
-- Unless it is the one applied last. The caller holds the lock of all plans, so that no two do this at once.
-- $1 version, $2 files (name -> text), $3 now
INSERT INTO billing.config_sets (version, files, applied_at)
SELECT $1, $2::jsonb, $3
WHERE $1 IS DISTINCT FROM (SELECT version FROM billing.config_sets ORDER BY id DESC LIMIT 1)

-- newest --
SELECT version, files FROM billing.config_sets ORDER BY id DESC LIMIT 1
