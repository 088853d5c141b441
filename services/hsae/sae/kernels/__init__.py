"""Matrix products without the zeros of the latents."""
