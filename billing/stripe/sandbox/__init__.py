"""A stand-in for Stripe, for development and tests. No money moves, and it never answers in Stripe's name.

It keeps what it is told (store.py), validates every request against Stripe's own OpenAPI description (spec/, params.py)
and refuses what Stripe refuses; a parameter that Stripe knows and this sandbox does not is refused too, with a sentence
that says so. Each resource has one file in resources/. Faults on demand are in faults.py, the server is in server.py.
"""
