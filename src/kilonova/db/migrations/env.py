"""Unused by our own upgrade (db/migrate.py); Alembic asks that it exist."""
