"""What reads the last layer before and after an edit."""

from typing import Literal, get_args

ReadoutName = Literal["probe", "knn", "classifier", "zero_shot"]
READOUTS: tuple[ReadoutName, ...] = get_args(ReadoutName)
"""In the order of a key."""
SHOWN_READOUTS: tuple[ReadoutName, ...] = ("probe", "classifier", "zero_shot", "knn")
"""The first that there is stands beside a latent: those with probabilities before the others."""
