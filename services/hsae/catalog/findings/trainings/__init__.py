"""Queries about trainings: their curves."""
