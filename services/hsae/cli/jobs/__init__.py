"""hsae-admin jobs."""
