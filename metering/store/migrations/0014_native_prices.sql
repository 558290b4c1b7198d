-- Not every price is one that Stripe charges itself (billing/model/native.py).

-- Whether Stripe hears of a period's overage, as the last cut of it while it ran found; null: none has looked since prices could
-- be anything else, and it does. What is rated here stays rated here, whatever plan follows after the period's end.
ALTER TABLE billing.usage_period ADD COLUMN native boolean;
