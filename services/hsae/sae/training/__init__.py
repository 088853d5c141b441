"""The training of one SAE: its start, its steps, its checkpoints."""
