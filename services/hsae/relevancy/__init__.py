"""Relevancy maps: which patches of an image matter for a latent of a layer (docs/maps.md). Works on tensors alone."""
