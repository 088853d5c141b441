"""SAEs of other packages: their files are read, their conventions folded into ours, and ours written for them."""
