"""hsae-admin results names."""
