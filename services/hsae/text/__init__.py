"""Text beside images: the text tower of a CLIP-like model, vocabularies, and names of latents by text."""
