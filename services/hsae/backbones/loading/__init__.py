"""Models of each library, built and filled with their weights."""
