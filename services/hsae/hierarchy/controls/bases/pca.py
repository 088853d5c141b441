"""Principal directions: the axes of greatest variance."""

from typing import ClassVar

import numpy as np

from hsae.hierarchy.controls.bases.baseline import Baseline
from hsae.hierarchy.controls.bases.columns import LinearColumns, both_sides
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.hierarchy.kernels.device import to_device
from hsae.vocabulary.bases import ControlBasis


class PrincipalDirections(Baseline):
    """Projections of the centred activations on the principal directions of the train images, both signs of each."""

    name: ClassVar[ControlBasis] = "pca"

    @staticmethod
    def columns(given: BaselineInputs, seed: int) -> LinearColumns:
        """Columns by falling variance."""
        del seed
        directions = to_device(given.principal_directions.astype(np.float32, order="C"), given.device)
        return LinearColumns(given.centred, directions, both_sides(np.arange(len(directions))), is_signed=True)
