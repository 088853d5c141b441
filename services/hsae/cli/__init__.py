"""hsae-admin: the command line (Click), one file per command."""
