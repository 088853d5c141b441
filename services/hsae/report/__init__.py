"""Figures and text tables made from the catalog's rows."""
