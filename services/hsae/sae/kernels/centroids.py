"""k-means centroids of a training's rows, the points of an archetypal SAE."""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from scipy.cluster.vq import kmeans2
from torch import Tensor

_ROUNDS = 10


def centroids(rows: Float[Tensor, "n_rows d_model"], n_points: int, seed: int) -> Float[Tensor, "n_points d_model"]:
    """k-means centroids of rows; where there are fewer rows than points, the rows, some of them several times."""
    if rows.shape[0] <= n_points:
        return rows[torch.arange(n_points) % rows.shape[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cluster that loses its rows keeps its centroid
        random = np.random.default_rng(seed)
        found, _ = kmeans2(rows.double().numpy(), n_points, iter=_ROUNDS, minit="points", seed=random)
    return torch.from_numpy(found)
