"""The inputs of every score: columns of latents, ranks, sums by class."""
