"""What Stripe's events mean here: ours follows what stands at Stripe.

An event says only that an object changed. The object is asked of Stripe, and written as it is now: events that come twice, late or in
another order end in the same rows. registry.py has a line for each type, work.py works through the inbox, recover.py fetches what
never arrived.
"""
