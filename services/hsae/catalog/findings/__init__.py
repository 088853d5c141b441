"""Queries about results: scores, edges, levels, trees, comparisons."""
