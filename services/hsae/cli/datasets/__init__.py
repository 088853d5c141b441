"""hsae-admin dataset."""
