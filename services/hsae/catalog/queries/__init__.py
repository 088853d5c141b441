"""Queries about what exists: studies, jobs, analyses, names."""
