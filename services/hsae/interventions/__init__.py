"""Interventions: latents are edited in a layer, and readouts say what the model lost (docs/interventions.md)."""
