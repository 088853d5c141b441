"""The Postgres server: connections, migrations, roles, bulk loading, locks."""
