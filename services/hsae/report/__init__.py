"""Pictures and tables made from the catalog's rows."""
