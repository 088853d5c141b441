"""Tables of names by text."""
