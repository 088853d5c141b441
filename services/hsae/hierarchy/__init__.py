"""Latents against a taxonomy: scores of nodes, latents and layers, controls, the hierarchy among latents, probes.

Everything here is NumPy, SciPy and torch on arrays in memory. docs/metrics.md defines each number.
"""
