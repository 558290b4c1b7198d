-- Coupons, and who redeemed them. Read by billing/store/coupons.py.

-- insert --
-- $1 code, $2 name, $3 percent, $4 amounts, $5 duration, $6 months, $7 most redemptions, $8 redeem by, $9 now.
-- Returns the code, or nothing where it is taken.
INSERT INTO billing.coupons
    (code, name, percent_off, amount_off, duration, months, max_redemptions, redeem_by, created_at)
VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9)
ON CONFLICT (code) DO NOTHING
RETURNING code

-- get --
-- $1 code
SELECT * FROM billing.coupons WHERE code = $1

-- page --
-- $1 code of the last before it, or null; $2 at most so many
SELECT * FROM billing.coupons
WHERE $1::text IS NULL OR (created_at, code) > (SELECT created_at, code FROM billing.coupons WHERE code = $1)
ORDER BY created_at, code
LIMIT $2

-- count --
-- One more redemption, if there is one left: the row's lock makes it exact. $1 code
UPDATE billing.coupons SET redeemed = redeemed + 1
WHERE code = $1 AND withdrawn_at IS NULL AND (max_redemptions IS NULL OR redeemed < max_redemptions)
RETURNING redeemed

-- withdraw --
-- $1 code, $2 now
UPDATE billing.coupons SET withdrawn_at = $2 WHERE code = $1 AND withdrawn_at IS NULL RETURNING code

-- discounts_of_org --
-- In the order in which they are taken. $1 org
SELECT d.id, d.start_at, d.end_at, d.removed_at, c.*,
    EXISTS (SELECT FROM billing.discount_uses u WHERE u.discount_id = d.id AND u.undone_at IS NULL) AS used
FROM billing.discounts d
JOIN billing.coupons c ON c.code = d.coupon
WHERE d.org_id = $1
ORDER BY d.id

-- lock_discounts --
-- A statement of its own, so that what is read next is what it is after the wait. $1 org
SELECT id FROM billing.discounts WHERE org_id = $1 ORDER BY id FOR UPDATE

-- redeem --
-- $1 org, $2 coupon, $3 start, $4 end
INSERT INTO billing.discounts (org_id, coupon, start_at, end_at) VALUES ($1, $2, $3, $4) RETURNING id

-- set_removed --
-- $1 id, $2 when, or null where it stands again
UPDATE billing.discounts SET removed_at = $2 WHERE id = $1

-- use --
-- $1 discounts[], $2 amounts[], $3 invoice, $4 org, $5 now
INSERT INTO billing.discount_uses (discount_id, invoice_id, org_id, amount, used_at)
SELECT discount_id, $3, $4, amount, $5 FROM unnest($1::bigint[], $2::numeric[]) AS u (discount_id, amount)
ON CONFLICT (discount_id, invoice_id) DO UPDATE SET amount = excluded.amount, undone_at = NULL

-- undo --
-- $1 invoice, $2 now
UPDATE billing.discount_uses SET undone_at = $2 WHERE invoice_id = $1 AND undone_at IS NULL RETURNING discount_id
