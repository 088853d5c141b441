"""Jobs in Postgres: leases, notifications of workers, and recovery of lost jobs."""
