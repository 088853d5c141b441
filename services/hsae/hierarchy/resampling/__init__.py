"""Headline numbers again with classes deleted, for their intervals, and with classes permuted over the tree."""
