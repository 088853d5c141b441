"""Queries of the explorer's pages; each can be read as SQL that gives the same rows."""
