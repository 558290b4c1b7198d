"""Pure model: meters, quotas, entitlements, periods, ledger rows, Redis keys. Imports the standard library alone."""
