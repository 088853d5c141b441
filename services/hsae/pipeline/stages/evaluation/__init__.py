"""What a training writes of its SAE: its curve, and figures that need the images' classes."""
