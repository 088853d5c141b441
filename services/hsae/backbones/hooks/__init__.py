"""Places in a backbone at which activations are read, and what they give."""
