"""Forward passes of which more is kept than the activations: for explanations and for interventions."""
