"""What a notebook shows beside tables: grids of images, explanations, figures."""
