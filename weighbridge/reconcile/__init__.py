"""`weighbridge reconcile`: read every place that holds counts, and hold them against one another (billing/model/conservation.py)."""
