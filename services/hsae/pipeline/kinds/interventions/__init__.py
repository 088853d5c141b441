"""The kind intervene."""
