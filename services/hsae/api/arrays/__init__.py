"""Extraction, training and scoring on arrays in memory, without any server."""
