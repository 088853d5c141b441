"""Comparison of the analyses of a study: intervals, differences, trends with depth, seed stability."""
