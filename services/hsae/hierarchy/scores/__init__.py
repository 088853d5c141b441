"""Scores of pairs of a latent and a node, of latents, and of layers."""
