"""What the requests of several kinds share; no kind."""
