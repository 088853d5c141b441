"""Columns of a baseline: a real value for every image, before any threshold."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from hsae.hierarchy.kernels.device import to_device


class Columns(Protocol):
    """Real-valued columns over images. A threshold of its own makes of each column something that fires."""

    @property
    def n_images(self) -> int:
        """Number of images."""

    @property
    def n_columns(self) -> int:
        """Number of columns."""

    @property
    def order(self) -> Int64[np.ndarray, "n_columns"]:
        """The columns in the order in which they are given the SAE's densities, the densest first."""

    def values(self, columns: Int64[np.ndarray, "n_chosen"]) -> Float32[Tensor, "n_chosen n_images"]:
        """Some columns, each as a row; a new tensor, on the device on which they are computed."""

    def on(self, images: Int64[np.ndarray, "n_chosen"]) -> "Columns":
        """The same columns on some of the images, by position."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearColumns:
    """Projections of activations on directions.

    Attributes:
        rows: the centred activations.
        directions: one per row; None: the coordinate axes, which are the neurons.
        order: as in `Columns`.
        is_signed: whether a direction and its opposite are two columns: `d`, and `n_directions + d`.
        scale: a factor for every image; one over its length makes a projection on a unit direction a cosine.
    """

    rows: Float32[Tensor, "n_images d_model"]
    directions: Float32[Tensor, "n_directions d_model"] | None
    order: Int64[np.ndarray, "n_columns"]
    is_signed: bool = False
    scale: Float32[Tensor, " n_images"] | None = None

    @property
    def n_images(self) -> int:
        """Rows of the activations."""
        return len(self.rows)

    @property
    def n_columns(self) -> int:
        """Columns: a direction, or its two sides."""
        return len(self.order)

    def values(self, columns: Int64[np.ndarray, "n_chosen"]) -> Float32[Tensor, "n_chosen n_images"]:
        """Projections of all images."""
        if not self.is_signed:
            return self._projected(columns)
        n_directions = self.n_columns // 2
        used, which = np.unique(columns % n_directions, return_inverse=True)  # both sides from one projection
        values = self._projected(used)[to_device(which, self.rows.device)]
        side = np.where(columns < n_directions, 1, -1).astype(np.float32)
        return values.mul_(to_device(side, self.rows.device)[:, None])

    def _projected(self, directions: Int64[np.ndarray, "n_chosen"]) -> Float32[Tensor, "n_chosen n_images"]:
        chosen = to_device(directions, self.rows.device)
        rows = self.rows.T
        values = rows.index_select(0, chosen) if self.directions is None else self.directions[chosen] @ rows
        return values if self.scale is None else values.mul_(self.scale)

    def on(self, images: Int64[np.ndarray, "n_chosen"]) -> "LinearColumns":
        """The same columns on some of the images."""
        chosen = to_device(images, self.rows.device)
        return replace(self, rows=self.rows[chosen], scale=None if self.scale is None else self.scale[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class SparseColumns:
    """Columns that are sparse from the start, made by `of`.

    Attributes:
        by_image: float32[n_images, n_columns], not negative, stored by row.
        by_column: the same matrix, stored by column.
        order: as in `Columns`.
    """

    by_image: "sp.csr_array[np.float32]"
    by_column: "sp.csc_array[np.float32]"
    order: Int64[np.ndarray, "n_columns"]

    @classmethod
    def of(cls, z: "sp.csr_array[np.float32]", order: Int64[np.ndarray, "n_columns"]) -> "SparseColumns":
        """The columns of a matrix."""
        return cls(z, z.tocsc(), order)

    @property
    def n_images(self) -> int:
        """Rows of the matrix."""
        return int(self.by_image.shape[0])

    @property
    def n_columns(self) -> int:
        """Columns of the matrix."""
        return int(self.by_image.shape[1])

    def values(self, columns: Int64[np.ndarray, "n_chosen"]) -> Float32[Tensor, "n_chosen n_images"]:
        """Activations of all images, in CPU memory."""
        return torch.from_numpy(self.by_column[:, columns].T.toarray())

    def on(self, images: Int64[np.ndarray, "n_chosen"]) -> "SparseColumns":
        """The same columns on some of the images."""
        return self.of(self.by_image[images], self.order)


def both_sides(order: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n_columns"]:
    """The order of the columns of signed directions from that of the directions: each next to its opposite."""
    return np.stack((order, order + len(order)), axis=1).ravel()
