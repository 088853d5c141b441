"""Searches among the images of a data set."""
