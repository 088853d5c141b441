"""Scores of (latent, node) pairs, of latents, and of layers."""
