"""Kinds of jobs that bring in what another program made."""
