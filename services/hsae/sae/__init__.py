"""Sparse autoencoders: their kinds (`variants`), the trainer, and what is measured of the result."""
