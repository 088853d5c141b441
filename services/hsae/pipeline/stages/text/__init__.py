"""Stage names: latents of an analysis are named by text."""
