"""From an image file to plain RGB, or the reason why not."""
