"""Raw neurons: the coordinates that the model itself has."""

from typing import ClassVar

import numpy as np

from hsae.hierarchy.controls.bases.baseline import Baseline
from hsae.hierarchy.controls.bases.columns import Columns, LinearColumns, SparseColumns, both_sides
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.hierarchy.controls.bases.untrained import by_own_firing, check_latents
from hsae.vocabulary.bases import ControlBasis


class Neuron(Baseline):
    """The activations that the SAE was given, centred at the train images' mean, both signs of each neuron.

    Of images with several tokens: the greatest positive and the greatest negative part over the tokens, pooled as the
    latents are and not centred.
    """

    name: ClassVar[ControlBasis] = "neuron"
    needs_one_token: ClassVar[bool] = False

    @staticmethod
    def columns(given: BaselineInputs, seed: int) -> Columns:
        """Columns by falling variance over the train images; those of several tokens by their own firing."""
        del seed
        if given.pooled_neurons is not None:
            check_latents(given.pooled_neurons, given, "pooled neurons")
            return SparseColumns.of(given.pooled_neurons, by_own_firing(given.pooled_neurons, given.select))
        centred = given.centred
        order = both_sides(np.argsort(-given.train_variance, kind="stable"))
        return LinearColumns(centred, None, order, is_signed=True)
