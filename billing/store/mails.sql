-- Mails that must go out, as the use cases write them and delivery takes them.

-- add --
-- One mail; an identifier that is known already is left out.
-- $1 org_id, $2 kind, $3 identifier, $4 recipient, $5 facts, $6 due_at, $7 now
INSERT INTO billing.mails (org_id, kind, identifier, recipient, facts, due_at, created_at)
VALUES ($1::uuid, $2, $3, $4, $5::jsonb, $6, $7)
ON CONFLICT (identifier) DO NOTHING;

-- drop --
-- Mails of these kinds that did not go out yet are not wanted any more.
-- $1 org_id, $2 kinds[], $3 now
UPDATE billing.mails SET state = 'dropped', closed_at = $3, last_error = 'not wanted any more'
WHERE org_id = $1::uuid AND kind = ANY ($2::text[]) AND state = 'waiting'
RETURNING id;

-- due --
-- $1 now
SELECT count(*) FROM billing.mails WHERE state = 'waiting' AND due_at <= $1 AND coalesce(next_attempt_at, due_at) <= $1;

-- claim --
-- The mail that is due longest, counted as tried and kept from others until $2.
-- $1 now, $2 until
WITH claimed AS (
    UPDATE billing.mails SET attempts = attempts + 1, next_attempt_at = $2
    WHERE id = (
        SELECT id FROM billing.mails
        WHERE state = 'waiting' AND due_at <= $1 AND coalesce(next_attempt_at, due_at) <= $1
        ORDER BY due_at, id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    RETURNING *
)
SELECT claimed.id, claimed.org_id, claimed.kind, claimed.identifier, claimed.recipient, claimed.facts, claimed.due_at, claimed.attempts,
    organizations.name AS organization, organizations.deleted_at IS NOT NULL AS deleted, customers.email,
    customers.name AS contact, customers.language
FROM claimed
JOIN billing.organizations ON organizations.id = claimed.org_id
LEFT JOIN billing.customers ON customers.org_id = claimed.org_id;

-- finish --
-- What became of a claimed mail; one that was dropped while it went out was sent all the same.
-- $1 id, $2 attempt, $3 state, $4 next_attempt_at, $5 reason, $6 now
UPDATE billing.mails
SET state = $3, next_attempt_at = $4, last_error = $5, closed_at = CASE WHEN $3 = 'waiting' THEN NULL ELSE $6::timestamptz END
WHERE id = $1 AND attempts = $2 AND (state = 'waiting' OR (state = 'dropped' AND $3 = 'sent'))
RETURNING id;

-- give_back --
-- $1 id, $2 attempt
UPDATE billing.mails SET attempts = attempts - 1, next_attempt_at = NULL WHERE id = $1 AND attempts = $2 AND state = 'waiting';

-- expire --
-- What was due before $1 and still waits. Until its next attempt is due one may be under way.
-- $1 due before, $2 reason, $3 now
UPDATE billing.mails SET state = 'dropped', closed_at = $3, last_error = $2 || coalesce('; the last attempt: ' || last_error, '')
WHERE state = 'waiting' AND due_at < $1 AND (next_attempt_at IS NULL OR next_attempt_at <= $3)
RETURNING id;

-- newest --
-- $1 org_id or null, $2 state or null, $3 limit, $4 of those before this one, or null
SELECT mails.*, organizations.slug FROM billing.mails
JOIN billing.organizations ON organizations.id = mails.org_id
WHERE ($1::uuid IS NULL OR mails.org_id = $1::uuid) AND ($2::text IS NULL OR mails.state = $2)
    AND ($4::bigint IS NULL OR mails.id < $4)
ORDER BY mails.id DESC
LIMIT $3;
