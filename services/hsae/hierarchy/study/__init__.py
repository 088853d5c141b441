"""The analyses of a study beside each other, with bootstrap intervals."""
