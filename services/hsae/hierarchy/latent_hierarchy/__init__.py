"""The latents' own hierarchy: which latent implies which."""
