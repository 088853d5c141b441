"""Queries about interventions."""
