"""Latents against a taxonomy: node, latent and layer scores, their controls, the latents' own hierarchy; and a layer's
own class information.

Everything here is numpy, scipy and torch on arrays in memory; docs/metrics.md says what each number means.
"""
