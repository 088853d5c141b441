"""How pages are written: templates, cells, numbers, addresses, and what one copies."""
