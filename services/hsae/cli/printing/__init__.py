"""Tables and names for people, JSON for programs."""
