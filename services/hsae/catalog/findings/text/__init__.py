"""Queries about names by text."""
