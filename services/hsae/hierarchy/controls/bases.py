"""Control bases before thinning: raw neurons, principal and random directions, latents of an untrained SAE."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int, Int64

from hsae.errors import UserError
from hsae.hierarchy.config import ControlBasis

_BLOCK_ROWS = 4096


class DenseBasis(Protocol):
    """A dense basis. It is thinned and then scored like an SAE; its columns can also be scored without thinning."""

    @property
    def n_images(self) -> int:
        """Number of images: those that the SAE is scored on."""

    @property
    def n_columns(self) -> int:
        """Number of columns, after the split by sign."""

    def values(self, images: slice) -> Float32[np.ndarray, "n_chosen n_values"]:
        """All values of a range of images.

        The positive part of value `d` is column `d`, its negative part (as a positive number) column `n_values + d`.
        """

    def columns(self, indices: Int[np.ndarray, "n_chosen"]) -> Float32[np.ndarray, "n_images n_chosen"]:
        """Some columns of all images; no value is negative."""


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """Projections of the activations on directions, split by sign into `2 * n_directions` columns.

    Attributes:
        activations: the inputs of the SAE.
        centre: subtracted from the activations first; None: nothing is subtracted.
        directions: one per row; None: the coordinate axes, which are the neurons.
    """

    activations: Float32[np.ndarray, "n_images d_model"]
    centre: Float64[np.ndarray, "d_model"] | None = None
    directions: Float32[np.ndarray, "n_directions d_model"] | None = None

    @property
    def n_images(self) -> int:
        """Rows of the activations."""
        return len(self.activations)

    @property
    def n_columns(self) -> int:
        """Two columns per direction."""
        return 2 * self._n_directions

    def values(self, images: slice) -> Float32[np.ndarray, "n_chosen n_directions"]:
        """Projections of a run of images."""
        return self._project(images, np.arange(self._n_directions))

    def columns(self, indices: Int[np.ndarray, "n_chosen"]) -> Float32[np.ndarray, "n_images n_chosen"]:
        """Positive or negative parts of projections of all images."""
        parts = np.empty((self.n_images, len(indices)), np.float32)
        sign = np.where(indices < self._n_directions, 1, -1).astype(np.float32)
        for first in range(0, self.n_images, _BLOCK_ROWS):
            images = slice(first, first + _BLOCK_ROWS)
            parts[images] = np.maximum(self._project(images, indices % self._n_directions) * sign, 0)
        return parts

    @property
    def _n_directions(self) -> int:
        return self.activations.shape[1] if self.directions is None else len(self.directions)

    def _project(self, images: slice, chosen: Int[np.ndarray, "n_chosen"]) -> Float32[np.ndarray, "n n_chosen"]:
        block = self.activations[images]
        if self.centre is not None:
            block = (block - self.centre).astype(np.float32)
        return block[:, chosen] if self.directions is None else block @ self.directions[chosen].T


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """Latents of an SAE, made by `latent_basis`; they are not split by sign.

    Attributes:
        by_image: float32[n_images, n_latents], not negative, stored by row.
        by_latent: the same matrix, stored by column.
    """

    by_image: "sp.csr_array[np.float32]"
    by_latent: "sp.csc_array[np.float32]"

    @property
    def n_images(self) -> int:
        """Rows of the activations."""
        return int(self.by_image.shape[0])

    @property
    def n_columns(self) -> int:
        """Latents."""
        return int(self.by_image.shape[1])

    def values(self, images: slice) -> Float32[np.ndarray, "n_chosen n_latents"]:
        """Activations of a run of images."""
        return self.by_image[images].toarray()

    def columns(self, indices: Int[np.ndarray, "n_chosen"]) -> Float32[np.ndarray, "n_images n_chosen"]:
        """Activations of some latents on all images."""
        return self.by_latent[:, indices].toarray()


@dataclass(frozen=True, slots=True, eq=False)
class SomeImages:
    """A dense basis on some of its images.

    Attributes:
        basis: the basis on all images.
        positions: the images, ascending.
    """

    basis: DenseBasis
    positions: Int64[np.ndarray, "n_images"]

    @property
    def n_images(self) -> int:
        """Number of the chosen images."""
        return len(self.positions)

    @property
    def n_columns(self) -> int:
        """Columns of the whole basis."""
        return self.basis.n_columns

    def values(self, images: slice) -> Float32[np.ndarray, "n_chosen n_values"]:
        """All values of a range of the chosen images."""
        chosen = self.positions[images]
        first = int(chosen[0]) if len(chosen) else 0
        values: np.ndarray = self.basis.values(slice(first, int(chosen[-1]) + 1 if len(chosen) else 0))
        return np.take(values, chosen - first, axis=0)

    def columns(self, indices: Int[np.ndarray, "n_chosen"]) -> Float32[np.ndarray, "n_images n_chosen"]:
        """Some columns of the chosen images."""
        return np.take(self.basis.columns(indices), self.positions, axis=0)


def control_basis(
    control: ControlBasis,
    activations: Float32[np.ndarray, "n_images d_model"],
    untrained: "sp.csr_array[np.float32] | None",
    pooled_neurons: "sp.csr_array[np.float32] | None" = None,
    *,
    n_latents: int,
    seed: int,
) -> DenseBasis:
    """A control basis by its name.

    Args:
        control: its name.
        activations: the inputs of the SAE.
        untrained: float32[n_images, n_latents], the latents of the SAE before its training; needed by `untrained`.
        pooled_neurons: for images with several tokens, the neurons' maximum over the tokens, split by sign.
        n_latents: number of latents of the SAE.
        seed: seed of the random directions.

    Raises:
        UserError: activations are NaN or infinite, or the activations of the untrained SAE are missing or belong to
            other images.
    """
    if control == "neuron":
        return neuron_basis(activations) if pooled_neurons is None else latent_basis(pooled_neurons)
    if control == "pca":
        return pca_basis(activations)
    if control == "random":
        return random_basis(activations, n_latents, seed)
    if untrained is None or untrained.shape[0] != len(activations):
        given = "none" if untrained is None else f"those of {untrained.shape[0]}"
        raise UserError(
            f"the control untrained needs the untrained SAE's activations of the same {len(activations)} images, "
            f"got {given}"
        )
    return latent_basis(untrained)


def neuron_basis(activations: Float32[np.ndarray, "n_images d_model"]) -> Directions:
    """The raw neurons: nothing is centred or scaled.

    Raises:
        UserError: the activations hold NaN or infinite values.
    """
    _check_finite(activations)
    return Directions(activations)


def pca_basis(activations: Float32[np.ndarray, "n_images d_model"]) -> Directions:
    """The principal directions of the activations, centred at their mean, in order of decreasing variance.

    They are eigenvectors of the covariance (float64). The sign is chosen so that the component of greatest magnitude is
    positive. A direction along which the images do not differ, up to rounding, is set to zero: its columns never fire.

    Raises:
        UserError: the activations hold NaN or infinite values.
    """
    _check_finite(activations)
    d_model = activations.shape[1]
    centre = activations.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((d_model, d_model))
    for first in range(0, len(activations), _BLOCK_ROWS):
        block = activations[first : first + _BLOCK_ROWS] - centre
        covariance += block.T @ block
    variance, vectors = np.linalg.eigh(covariance)
    directions = vectors.T[::-1]
    greatest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1, keepdims=True), axis=1)
    is_flat = variance[::-1] <= variance[-1] * d_model * np.finfo(np.float64).eps
    directions = np.where(is_flat[:, np.newaxis], 0.0, directions * np.sign(greatest))
    return Directions(activations, centre, directions.astype(np.float32))


def random_basis(activations: Float32[np.ndarray, "n_images d_model"], n_latents: int, seed: int) -> Directions:
    """Random directions, uniform on the sphere; the activations are centred at their mean.

    The centring is that of PCA and of an SAE's pre-bias. Where the images share most of their activation, an uncentred
    projection would have the same sign and nearly the same size on all of them.

    Args:
        activations: the inputs of the SAE.
        n_latents: number of latents of the SAE. Half as many directions, rounded up, give as many columns, and so the
            same number of chances to match a node.
        seed: seed of NumPy's `Generator(PCG64(seed))`.

    Raises:
        UserError: the activations hold NaN or infinite values.
    """
    _check_finite(activations)
    directions = np.random.Generator(np.random.PCG64(seed)).standard_normal((-(-n_latents // 2), activations.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Directions(activations, activations.mean(axis=0, dtype=np.float64), directions.astype(np.float32))


def latent_basis(z: "sp.csr_array[np.float32]") -> Latents:
    """The latents of another SAE on the same images, float32[n_images, n_latents].

    Raises:
        UserError: they hold NaN, infinite or negative values.
    """
    is_bad = ~(np.isfinite(z.data) & (z.data >= 0))
    if is_bad.any():
        raise UserError(
            f"the untrained SAE's latent activations hold {int(is_bad.sum())} NaN, infinite or negative values: "
            "extract the activations again"
        )
    return Latents(z, z.tocsc())


def _check_finite(activations: Float32[np.ndarray, "n_images d_model"]) -> None:
    is_bad = ~np.isfinite(activations)
    if is_bad.any():
        image, neuron = np.argwhere(is_bad)[0]
        raise UserError(
            f"the activations hold {int(is_bad.sum())} NaN or infinite values (the first: image {image}, "
            f"neuron {neuron}): extract them again"
        )
