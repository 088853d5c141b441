"""Products, sorts and blocks that the scores are made of, on the CPU and on CUDA."""
