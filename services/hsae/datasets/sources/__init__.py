"""Where images come from: one class for each kind of place."""
