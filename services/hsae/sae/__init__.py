"""Sparse autoencoders: the variants (ReLU with L1, TopK), the trainer, and what is measured of the result."""
