"""The kind names."""
