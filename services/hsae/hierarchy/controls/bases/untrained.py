"""The SAE before its training: what its architecture and start alone give."""

from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int64

from hsae.errors import UserError
from hsae.hierarchy.controls.bases.baseline import Baseline
from hsae.hierarchy.controls.bases.columns import SparseColumns
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.vocabulary.bases import ControlBasis


class Untrained(Baseline):
    """The latents of the SAE before its first training step.

    A latent that fires on fewer images than its threshold asks for fires as it is.
    """

    name: ClassVar[ControlBasis] = "untrained"
    needs_one_token: ClassVar[bool] = False

    @staticmethod
    def columns(given: BaselineInputs, seed: int) -> SparseColumns:
        """Columns by falling number of select images on which they fire."""
        del seed
        if given.untrained is None:
            raise UserError(
                f"the control untrained needs the untrained SAE's activations of the same {len(given.activations)} "
                "images, got none"
            )
        check_latents(given.untrained, given, "the untrained SAE's latent activations")
        return SparseColumns.of(given.untrained, by_own_firing(given.untrained, given.select))


def by_own_firing(
    z: "sp.csr_array[np.float32]", select: Int64[np.ndarray, "n_chosen"] | None
) -> Int64[np.ndarray, "n_columns"]:
    """The columns by the number of select images on which they are greater than 0, most first; ties by index."""
    chosen = z if select is None else z[select]
    n_fire = np.bincount(chosen.indices[chosen.data > 0], minlength=z.shape[1])
    return np.argsort(-n_fire, kind="stable")


def check_latents(z: "sp.csr_array[np.float32]", given: BaselineInputs, what: str) -> None:
    """Refuse activations of other images, and those that are not finite or negative.

    Raises:
        UserError: they are.
    """
    n_images = len(given.activations) if given.n_encoded is None else given.n_encoded
    if z.shape[0] != n_images:
        raise UserError(
            f"{what} must be of the same {n_images} images, got those of {z.shape[0]}: give both of the same images"
        )
    is_bad = ~(np.isfinite(z.data) & (z.data >= 0))
    if is_bad.any():
        raise UserError(
            f"{what} hold {int(is_bad.sum())} NaN, infinite or negative values: extract the activations again"
        )
