"""Random directions: what as many arbitrary projections know."""

from typing import ClassVar

import numpy as np

from hsae.hierarchy.controls.bases.baseline import Baseline
from hsae.hierarchy.controls.bases.columns import LinearColumns, both_sides
from hsae.hierarchy.controls.bases.exemplar import unit
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.vocabulary.bases import ControlBasis


class RandomDirections(Baseline):
    """Projections of the centred activations on directions that are uniform on the sphere, both signs of each.

    Half as many directions as the SAE has latents, rounded up, give as many columns, and so the same number of chances
    to match a node.
    """

    name: ClassVar[ControlBasis] = "random"
    is_repeated: ClassVar[bool] = True

    @staticmethod
    def columns(given: BaselineInputs, seed: int) -> LinearColumns:
        """Columns in the order of the draw."""
        n_directions = -(-given.n_latents // 2)
        rng = np.random.Generator(np.random.PCG64(seed))
        directions = rng.standard_normal((n_directions, given.activations.shape[1]))
        order = both_sides(np.arange(n_directions))
        return LinearColumns(given.centred, unit(given, directions), order, is_signed=True)
