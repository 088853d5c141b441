"""Tables of an analysis that only some studies have."""
