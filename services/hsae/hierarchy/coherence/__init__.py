"""How close in the taxonomy the classes of a latent's strongest images are, in bits, beside what chance gives."""
