"""Comparison of the analyses of a study, with bootstrap intervals."""
