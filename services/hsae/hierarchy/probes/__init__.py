"""What a layer's raw activations say of the classes, whatever an SAE makes of them."""
