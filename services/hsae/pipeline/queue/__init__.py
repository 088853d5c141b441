"""Jobs in Postgres: who holds one, who is told of it, and what becomes of those that were lost."""
