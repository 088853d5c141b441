"""Activation rows: where they are read, which of them train, and in which order."""
