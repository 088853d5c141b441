"""Class information in the raw activations of a layer, independent of any SAE."""
