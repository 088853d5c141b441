"""What every score is a function of: columns of latents, ranks, sums by class."""
