"""Edits in the vision tower of a model that runs on: an image-text model answers, steered."""
