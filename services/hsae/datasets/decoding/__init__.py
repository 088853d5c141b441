"""From an image file to RGB, or to the reason why it cannot be used."""
