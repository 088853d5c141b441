"""The tables of the catalog."""
