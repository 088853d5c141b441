"""Searches over names by text."""
