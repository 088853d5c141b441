"""Analyses as files for other tools, and rows of results with the names of their SAEs."""
