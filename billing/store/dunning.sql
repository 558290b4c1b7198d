-- What is done about invoices that are not paid. Read by billing/store/dunning.py.

-- enroll --
-- $1 do we charge our own invoices, $2 now
INSERT INTO billing.dunning (invoice_id, org_id, next_at)
SELECT i.id, i.org_id, coalesce(i.due_at, i.finalized_at, $2)
FROM billing.invoices i
WHERE i.status = 'open' AND i.amount_due > i.amount_paid + i.credited AND (i.issuer = 'weighbridge' AND $1 OR i.attempt_count > 0)
    AND NOT EXISTS (SELECT FROM billing.dunning d WHERE d.invoice_id = i.id)
ON CONFLICT DO NOTHING
RETURNING invoice_id

-- due --
-- Those whose time has come, and those of which something was heard. $1 now, $2 how many
SELECT d.invoice_id
FROM billing.dunning d
JOIN billing.invoices i ON i.id = d.invoice_id
WHERE d.closed_at IS NULL AND (
    d.next_at <= $1
    OR i.status IN ('paid', 'void')
    OR i.attempt_count > d.failures
    OR i.amount_due <= i.amount_paid + i.credited
    OR EXISTS (SELECT FROM billing.payment_attempts p WHERE p.invoice_id = i.id AND p.state = 'paid' AND i.status = 'open'))
ORDER BY d.next_at NULLS FIRST, d.invoice_id
LIMIT $2

-- get --
-- $1 invoice
SELECT * FROM billing.dunning WHERE invoice_id = $1 FOR UPDATE

-- save --
-- $1 invoice, $2 org, $3 next, $4 failures, $5 failed, $6 tried, $7 reason, $8 marked, $9 warned, $10 downgraded, $11 returned, $12 closed
INSERT INTO billing.dunning
    (invoice_id, org_id, next_at, failures, failed_at, tried_at, reason, marked, warned_at, downgraded_at, returned_at, closed_at)
VALUES ($1, $2::uuid, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (invoice_id) DO UPDATE
SET next_at = excluded.next_at, failures = excluded.failures, failed_at = excluded.failed_at, tried_at = excluded.tried_at,
    reason = excluded.reason, marked = excluded.marked, warned_at = excluded.warned_at, downgraded_at = excluded.downgraded_at,
    returned_at = excluded.returned_at, closed_at = excluded.closed_at

-- others --
-- $1 org, $2 invoice
SELECT EXISTS (
    SELECT FROM billing.dunning d
    JOIN billing.invoices i ON i.id = d.invoice_id
    WHERE d.org_id = $1::uuid AND d.invoice_id <> $2 AND d.closed_at IS NULL AND d.failed_at IS NOT NULL
        AND i.status IN ('open', 'uncollectible') AND i.amount_due > i.amount_paid + i.credited
)
