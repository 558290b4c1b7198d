"""Everything that talks to Stripe.

client.py calls it (the only importer of the SDK), objects.py and subscription.py say what must stand there, deliver.py
works through the outbox (rows.py). sandbox/ stands in for Stripe in development and tests.
"""
