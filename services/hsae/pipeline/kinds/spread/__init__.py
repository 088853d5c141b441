"""Parts of an extraction, which any number of workers take."""
