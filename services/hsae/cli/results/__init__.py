"""hsae-admin results."""
