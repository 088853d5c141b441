"""Queries of the report of a study: nodes beside their nulls, and the latents with the surest labels."""
