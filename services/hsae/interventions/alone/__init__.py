"""Latents one by one: is each used for its label, and how far does it steer."""
