"""What the baselines of one analysis are made from; what several of them need is computed once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.device import Device, to_device
from hsae.hierarchy.statistics.label_sets import Labels
from hsae.taxonomy import InducedTaxonomy

_BLOCK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class BaselineInputs:
    """What baselines are made from.

    Attributes:
        activations: the inputs of the SAE, of all images.
        labels: labels of all images, or of all but the last, which only train; only a supervised baseline reads them.
        taxonomy: the taxonomy of the labels.
        n_latents: number of latents of the SAE.
        train: positions of the train images, ascending; None: all images.
        select: positions of the select images, ascending; None: all images.
        untrained: the latents of the SAE before its training, float32[n_encoded, n_latents].
        pooled_neurons: of images with several tokens the neurons' greatest positive, then greatest negative parts,
            float32[n_encoded, 2 * d_model].
        n_encoded: the first images, of which these two are known; None: all images.
        device: where columns are projected.
        check: called for every block of work; may raise to stop.
    """

    activations: Float32[np.ndarray, "n_images d_model"]
    labels: Labels
    taxonomy: InducedTaxonomy
    n_latents: int
    train: Int64[np.ndarray, "n_train"] | None = None
    select: Int64[np.ndarray, "n_chosen"] | None = None
    untrained: "sp.csr_array[np.float32] | None" = None
    pooled_neurons: "sp.csr_array[np.float32] | None" = None
    n_encoded: int | None = None
    device: Device = "cpu"
    check: Callable[[], None] = go_on

    @cached_property
    def train_images(self) -> Int64[np.ndarray, "n_train"]:
        """Positions of the train images."""
        return np.arange(len(self.activations)) if self.train is None else self.train

    @cached_property
    def centre(self) -> Float64[np.ndarray, "d_model"]:
        """Mean activation of the train images.

        Raises:
            UserError: the activations hold NaN or infinite values.
        """
        is_bad = ~np.isfinite(self.activations)
        if is_bad.any():
            image, neuron = np.argwhere(is_bad)[0]
            raise UserError(
                f"the activations hold {int(is_bad.sum())} NaN or infinite values (the first: image {image}, "
                f"neuron {neuron}): extract them again"
            )
        return self._train_mean(lambda block: block)

    @cached_property
    def centred(self) -> Float32[Tensor, "n_images d_model"]:
        """The activations less the train images' mean, on the device: computed once for all baselines.

        Raises:
            UserError: as for `centre`.
        """
        centre = self.centre
        centred = torch.empty(self.activations.shape, dtype=torch.float32, device=self.device)
        for first in range(0, len(centred), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            rows = (self.activations[block] - centre).astype(np.float32)
            centred[block].copy_(to_device(rows, self.device), non_blocking=True)
        return centred

    @cached_property
    def inverse_length(self) -> Float32[Tensor, " n_images"]:
        """One over the length of every image's centred activation; 0 for an image at the mean."""
        blocks = torch.split(self.centred, _BLOCK_ROWS)
        length = torch.cat([block.double().square().sum(dim=1).sqrt() for block in blocks])
        return torch.where(length > 0, 1 / length, 0).float()

    @cached_property
    def train_variance(self) -> Float64[np.ndarray, "d_model"]:
        """Variance of every neuron over the train images."""
        return self._train_mean(lambda block: (block - self.centre) ** 2)

    @cached_property
    def principal_directions(self) -> Float64[np.ndarray, "d_model d_model"]:
        """One per row, by falling variance: eigenvectors of the train images' covariance (float64).

        The sign is chosen so that the component of greatest magnitude is positive. A direction along which the images
        do not differ, up to rounding, is set to zero: its columns never fire.
        """
        d_model = len(self.centre)
        covariance = np.zeros((d_model, d_model))
        for first in range(0, len(self.train_images), _BLOCK_ROWS):
            self.check()
            block = self.activations[self.train_images[first : first + _BLOCK_ROWS]] - self.centre
            covariance += block.T @ block
        variance, vectors = np.linalg.eigh(covariance)
        directions = vectors.T[::-1]
        greatest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1, keepdims=True), axis=1)
        is_flat = variance[::-1] <= variance[-1] * d_model * np.finfo(np.float64).eps
        return np.where(is_flat[:, np.newaxis], 0.0, directions * np.sign(greatest))

    def _train_mean(self, of: Callable[[np.ndarray], np.ndarray]) -> Float64[np.ndarray, "d_model"]:
        """Mean of a function of the train images' activations, in float64 and in the order of the images."""
        total = np.zeros(self.activations.shape[1])
        for first in range(0, len(self.train_images), _BLOCK_ROWS):
            block = self.activations[self.train_images[first : first + _BLOCK_ROWS]]
            total += of(block).sum(axis=0, dtype=np.float64)
        return total / len(self.train_images)
