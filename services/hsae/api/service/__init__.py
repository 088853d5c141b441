"""Studies, analyses, activations and submits of a running service."""
