"""Sparse products, sorts and blocks used by the scores, on the CPU and on CUDA."""
