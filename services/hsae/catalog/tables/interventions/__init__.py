"""Tables of interventions (docs/interventions.md)."""
