"""What is measured of a trained SAE."""
