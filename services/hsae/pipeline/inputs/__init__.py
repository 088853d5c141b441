"""Registered data sets: what goes into a job, and how it came into the catalog."""
