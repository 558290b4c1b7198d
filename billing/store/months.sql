-- Months that are closed, and what must tie out before (billing/store/months.py). Figures are those of issuer weighbridge.

-- closed --
SELECT to_char(month, 'YYYY-MM') AS month FROM billing.closed_months ORDER BY month

-- first --
SELECT to_char(min(finalized_at) AT TIME ZONE 'UTC', 'YYYY-MM') FROM billing.invoices WHERE issuer = 'weighbridge'

-- hold --
-- The numbers are given one after another: while this row is held, no invoice becomes final.
SELECT name FROM billing.invoice_counters ORDER BY name FOR UPDATE

-- close --
-- $1 month, $2 now, $3 figures
INSERT INTO billing.closed_months (month, closed_at, figures) VALUES ($1, $2, $3::jsonb)

-- unbilled_periods --
-- Usage periods that ended in the month and were not billed, of organizations that are billed here. $1 from, $2 to
SELECT o.slug, u.period_start, u.period_end, count(*) AS meters
FROM billing.usage_period u
JOIN billing.invoicing i ON i.org_id = u.org_id AND u.period_start >= i.since
JOIN billing.organizations o ON o.id = u.org_id
WHERE u.period_end > $1 AND u.period_end <= $2
    AND NOT EXISTS (SELECT FROM billing.rated_periods r WHERE r.org_id = u.org_id AND r.period_start = u.period_start)
GROUP BY o.slug, u.period_start, u.period_end
ORDER BY o.slug, u.period_start

-- changed_usage --
-- Usage that is not what was billed for. $1 from, $2 to
SELECT o.slug, u.service, u.period_start, u.cumulative, coalesce((r.used ->> u.service)::bigint, 0) AS billed
FROM billing.rated_periods r
JOIN billing.usage_period u ON u.org_id = r.org_id AND u.period_start = r.period_start
JOIN billing.organizations o ON o.id = r.org_id
WHERE r.period_end > $1 AND r.period_end <= $2 AND u.cumulative <> coalesce((r.used ->> u.service)::bigint, 0)
ORDER BY o.slug, u.service, u.period_start

-- waiting_items --
-- What was to be billed in the month and stands on no invoice. $1 from, $2 to
SELECT o.slug, i.description, i.amount, i.currency FROM billing.invoice_items i
JOIN billing.organizations o ON o.id = i.org_id
WHERE i.invoice_id IS NULL AND (
    (i.kind = 'base' AND i.period_start >= $1 AND i.period_start < $2)
    OR (i.kind IN ('overage', 'usage', 'minimum') AND i.period_end > $1 AND i.period_end <= $2))
ORDER BY o.slug, i.id

-- drafts --
-- $1 from, $2 to
SELECT o.slug, i.id FROM billing.invoices i JOIN billing.organizations o ON o.id = i.org_id
WHERE i.issuer = 'weighbridge' AND i.status = 'draft' AND i.created_at >= $1 AND i.created_at < $2
ORDER BY o.slug, i.id

-- unequal_items --
-- An item that was taken up by an invoice, and does not stand on it with its amount. $1 from, $2 to
SELECT i.number, t.description, t.amount, l.amount AS billed FROM billing.invoices i
JOIN billing.invoice_items t ON t.invoice_id = i.id
LEFT JOIN billing.invoice_lines l ON l.item_id = t.id AND l.invoice_id = i.id
WHERE i.issuer = 'weighbridge' AND i.finalized_at >= $1 AND i.finalized_at < $2 AND l.amount IS DISTINCT FROM t.amount
ORDER BY i.number, t.id

-- unequal_sums --
-- $1 from, $2 to
SELECT i.number, i.subtotal, i.discount, i.tax, i.total, i.credit, i.amount_due, i.carried, s.lines, s.off, s.taxes, s.credits
FROM billing.invoices i
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(l.amount) FILTER (WHERE l.kind NOT IN ('discount', 'tax', 'credit')), 0) AS lines,
        coalesce(-sum(l.amount) FILTER (WHERE l.kind = 'discount'), 0) AS off,
        coalesce(sum(l.amount) FILTER (WHERE l.kind = 'tax'), 0) AS taxes,
        coalesce(-sum(l.amount) FILTER (WHERE l.kind = 'credit'), 0) AS credits
    FROM billing.invoice_lines l WHERE l.invoice_id = i.id
) s
WHERE i.issuer = 'weighbridge' AND i.finalized_at >= $1 AND i.finalized_at < $2 AND (
    i.subtotal <> s.lines OR i.discount <> s.off OR i.tax <> s.taxes OR i.credit <> s.credits
    OR i.total <> i.subtotal - i.discount + CASE WHEN i.tax_inclusive THEN 0 ELSE i.tax END
    OR i.total - i.credit <> i.amount_due - i.carried)
ORDER BY i.number

-- unequal_payments --
-- Paid, by the invoice, and by the receipts. $1 from, $2 to
SELECT i.number, i.status, i.amount_due, i.amount_paid, i.credited, s.received, s.returned, n.refunded, n.off_due
FROM billing.invoices i
CROSS JOIN LATERAL (
    SELECT coalesce(sum(amount) FILTER (WHERE kind = 'payment'), 0) AS received,
        coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0) AS returned
    FROM billing.receipts r WHERE r.invoice_id = i.id
) s
CROSS JOIN LATERAL (
    SELECT coalesce(sum(refunded), 0) AS refunded, coalesce(sum(off_due), 0) AS off_due
    FROM billing.credit_notes c WHERE c.invoice_id = i.id
) n
WHERE i.issuer = 'weighbridge' AND (
        i.finalized_at >= $1 AND i.finalized_at < $2
        OR i.id IN (SELECT invoice_id FROM billing.receipts WHERE at >= $1 AND at < $2)
    ) AND (
        i.amount_paid <> s.received OR s.returned <> n.refunded OR i.credited <> n.off_due
        OR (i.status = 'paid' AND i.amount_paid + i.credited <> i.amount_due)
        OR (i.status <> 'paid' AND i.amount_paid <> 0 AND i.status <> 'open'))
ORDER BY i.number

-- numbers --
-- Numbers of the invoices that are final, against the last one given: equal where there is no gap.
SELECT c.last, (SELECT count(*) FROM billing.invoices WHERE issuer = 'weighbridge' AND number IS NOT NULL) AS given
FROM billing.invoice_counters c WHERE c.name = 'invoice'

-- figures --
-- $1 from, $2 to
SELECT i.currency, count(*) AS invoices, sum(i.subtotal) AS subtotal, sum(i.discount) AS discount, sum(i.tax) AS tax, sum(i.total) AS total,
    sum(i.credit) AS credit, sum(i.amount_due) AS due, coalesce(sum(i.total) FILTER (WHERE i.status = 'void'), 0) AS void
FROM billing.invoices i
WHERE i.issuer = 'weighbridge' AND i.finalized_at >= $1 AND i.finalized_at < $2
GROUP BY i.currency

-- money_figures --
-- $1 from, $2 to
SELECT currency, coalesce(sum(amount) FILTER (WHERE kind = 'payment'), 0) AS paid,
    coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0) AS refunded
FROM billing.receipts WHERE at >= $1 AND at < $2 GROUP BY currency

-- credit_figures --
-- $1 from, $2 to
SELECT currency, sum(total) AS credited FROM billing.credit_notes
WHERE stripe_id IS NULL AND created_at >= $1 AND created_at < $2 GROUP BY currency
