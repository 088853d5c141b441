"""What a user does to what is there: cancel, retry, rename, remove."""
