"""Alembic migrations of the catalog; they ship inside the wheel and are run by `hsae-admin db upgrade`."""
