"""Images to activations: decoding and preprocessing in threads, one forward pass for all layers."""
