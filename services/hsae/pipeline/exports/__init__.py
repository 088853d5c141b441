"""Analyses as files for other tools."""
