"""Rows in Postgres, one .py and one .sql file an aggregate: what billing/services/ports.py declares."""
