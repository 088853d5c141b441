"""What pages read: the catalog, listings, taxonomies and activations of the store, and models for uploads."""
