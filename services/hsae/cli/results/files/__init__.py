"""Commands of `hsae-admin results` that write files."""
