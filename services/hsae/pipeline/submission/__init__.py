"""What a user hands in: data sets by name or path, a request, its checks and its entry, and the wait for its jobs."""
