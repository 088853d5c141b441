"""Rows of activation sets: who enters them, which jobs read them, and which were dropped; no kind."""
