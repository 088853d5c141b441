"""Stage intervene: latents of an analysis are edited, and readouts say what the model lost."""
