"""Exemplars: how much an image is like one train image."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from hsae.hierarchy.controls.bases.baseline import Baseline
from hsae.hierarchy.controls.bases.columns import LinearColumns
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.hierarchy.kernels.device import to_device, to_host
from hsae.vocabulary.bases import ControlBasis


class Exemplar(Baseline):
    """Cosines of the centred activations to those of random train images (ours).

    There are as many columns as the SAE has latents, or as there are train images, if these are fewer. A memory of
    single images knows no concept; a dictionary must do better.
    """

    name: ClassVar[ControlBasis] = "exemplar"

    @staticmethod
    def columns(given: BaselineInputs, seed: int) -> LinearColumns:
        """Columns in the order of the draw."""
        train = given.train_images
        rng = np.random.Generator(np.random.PCG64(seed))
        images = rng.permutation(train)[: given.n_latents]
        rows = given.centred[to_device(images, given.device)].double()
        return cosines(given, to_host({"rows": rows})["rows"])


def cosines(
    given: BaselineInputs,
    directions: Float64[np.ndarray, "n_columns d_model"],
    order: Int64[np.ndarray, "n_columns"] | None = None,
) -> LinearColumns:
    """Cosines of the centred activations to directions of any length; 0 for a direction of zeros."""
    order = np.arange(len(directions)) if order is None else order
    return LinearColumns(given.centred, unit(given, directions), order, scale=given.inverse_length)


def unit(
    given: BaselineInputs, directions: Float64[np.ndarray, "n_directions d_model"]
) -> Float32[Tensor, "n_directions d_model"]:
    """The directions at length 1, those of zeros as they are, on the device."""
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = np.divide(directions, length, out=np.zeros_like(directions), where=length > 0)
    return to_device(directions.astype(np.float32, order="C"), given.device)
