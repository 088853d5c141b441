"""Hierarchy among the latents: parents and children, by the taxonomy and by activations."""
