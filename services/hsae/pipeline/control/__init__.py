"""User actions on what exists: cancel, retry, rename, remove."""
