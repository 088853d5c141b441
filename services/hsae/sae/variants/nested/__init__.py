"""Kinds that reconstruct a row at several granularities, each of which contains the one before."""
