"""How a pass ends before the model does: a hook raises, and whoever runs the model takes it."""


class AllReadError(Exception):
    """Nothing of the rest of a pass is needed."""
