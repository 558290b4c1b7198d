-- An organization sees which customer it is at Stripe, and of no other. What else stands there for it, nobody bound to it reads.
ALTER TABLE billing.stripe_objects ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing.stripe_objects FORCE ROW LEVEL SECURITY;
CREATE POLICY of_bound_org ON billing.stripe_objects FOR SELECT
    USING (kind = 'customer' AND key = (SELECT billing.bound_org())::text);
CREATE POLICY of_owner_unbound ON billing.stripe_objects TO CURRENT_USER USING ((SELECT billing.bound_org()) IS NULL);
