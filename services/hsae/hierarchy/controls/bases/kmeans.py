"""k-means: exemplars that are averaged over similar train images."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from hsae.hierarchy.config import ControlBasis
from hsae.hierarchy.controls.bases.baseline import Baseline
from hsae.hierarchy.controls.bases.columns import LinearColumns
from hsae.hierarchy.controls.bases.exemplar import cosines
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.hierarchy.kernels.blocks import go_on, latent_blocks
from hsae.hierarchy.kernels.greatest import best_of_rows
from hsae.hierarchy.kernels.parallel_blocks import map_blocks

MAX_ROUNDS = 10
"""Rounds of Lloyd's algorithm; with few points per cluster it ends earlier."""

N_DIMENSIONS = 64
"""Principal components in which clusters are found: distances in all of them would cost as much as the SAE."""

_BLOCK_POINTS = 1024
_DRAWS = 64
_SAME = 1e-6


class KMeans(Baseline):
    """Cosines of the centred activations to k-means centroids of the train images.

    The points are the train images' centred activations at length 1, so that clusters are compared as exemplars are.
    They are clustered by their first 64 principal components; the centroids are means of the points themselves (ours).
    There are as many clusters as the SAE has latents, but at most half as many as train images.
    """

    name: ClassVar[ControlBasis] = "kmeans"

    @staticmethod
    def columns(given: BaselineInputs, seed: int) -> LinearColumns:
        """Columns in the order in which their clusters were started; the largest cluster is the densest."""
        train = torch.from_numpy(given.train_images).to(given.device)
        points = given.centred[train] * given.inverse_length[train][:, None]
        near = points
        if points.shape[1] > N_DIMENSIONS:
            axes = torch.tensor(given.principal_directions[:N_DIMENSIONS].T, dtype=torch.float32, device=given.device)
            near = points @ axes
        n_clusters = max(1, min(given.n_latents, len(points) // 2))
        start = first_centroids(near, n_clusters, np.random.Generator(np.random.PCG64(seed)), check=given.check)
        _, size, centroids = means(points, lloyd(near, start, check=given.check))
        return cosines(given, centroids, np.argsort(-size, kind="stable"))


def first_centroids(
    points: Float32[Tensor, "n d"],
    n_clusters: int,
    rng: np.random.Generator,
    *,
    check: Callable[[], None] = go_on,
) -> Int64[np.ndarray, "n_chosen"]:
    """Indices of the points at which the clusters start, by k-means++ (Arthur and Vassilvitskii, 2007).

    The first is uniform, the next have probabilities in proportion to their squared distance from the nearest one
    drawn. One is drawn at a time, and of many clusters one in 64 of their number, without replacement (ours): that
    takes 64 passes over the points instead of thousands. Points nearer than 0.001 to a drawn one count as the same;
    fewer than `n_clusters` are drawn if the points have fewer different values.
    """
    at_once = max(1, n_clusters // _DRAWS)
    drawn = [np.array([rng.integers(len(points))])]
    n_drawn = 1
    squared = np.full(len(points), np.inf)
    while n_drawn < n_clusters:
        check()
        np.minimum(squared, _nearest(points, points[torch.from_numpy(drawn[-1])].double())[1], out=squared)
        squared[squared < _SAME] = 0
        # Of exponential variables with these rates the least ones are such a draw (Efraimidis and Spirakis, 2006).
        with np.errstate(divide="ignore"):
            arrival = rng.exponential(size=len(points)) / squared
        n_open = min(at_once, n_clusters - n_drawn, int(np.isfinite(arrival).sum()))
        if n_open == 0:
            break
        drawn.append(np.argsort(arrival, kind="stable")[:n_open])
        n_drawn += n_open
    return np.concatenate(drawn)


def lloyd(
    points: Float32[Tensor, "n d"],
    start: Int64[np.ndarray, "n_clusters"],
    *,
    check: Callable[[], None] = go_on,
) -> Int64[np.ndarray, "n"]:
    """Cluster of every point by Lloyd's algorithm: to the nearest centroid (ties: the lower index), then to the means.

    It ends when no point moves, after `MAX_ROUNDS` rounds at the latest. Distances are float32 products, means float64
    sums in the order of the points. A cluster that loses all of its points keeps its centroid.
    """
    centroids = points[torch.from_numpy(start)].double()
    cluster = np.full(len(points), -1)
    for _ in range(MAX_ROUNDS):
        check()
        nearest, _ = _nearest(points, centroids)
        if np.array_equal(nearest, cluster):
            break
        cluster = nearest
        used, _, moved = means(points, cluster)
        centroids[torch.from_numpy(used)] = torch.from_numpy(moved).to(points.device)
    return cluster


def means(
    points: Float32[Tensor, "n d"], cluster: Int64[np.ndarray, "n"]
) -> tuple[Int64[np.ndarray, "m"], Int64[np.ndarray, "m"], Float64[np.ndarray, "m d"]]:
    """The clusters that have points, ascending; their numbers of points; their means."""
    by_cluster = np.argsort(cluster, kind="stable")
    used, size = np.unique(cluster, return_counts=True)
    ends = np.concatenate(([0], np.cumsum(size)))
    mean = np.empty((len(used), points.shape[1]))
    for block in latent_blocks(ends, max_nonzeros=_BLOCK_POINTS):
        first, end = ends[block.start], ends[block.stop]
        chosen = points[torch.from_numpy(by_cluster[first:end])].double().cpu().numpy()
        mean[block] = np.add.reduceat(chosen, ends[block] - first, axis=0)
    return used, size, mean / size[:, np.newaxis]


def _nearest(
    points: Float32[Tensor, "n d"], centroids: Float64[Tensor, "n_clusters d"]
) -> tuple[Int64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """The nearest centroid of every point, and its squared distance."""
    half_squares = (centroids.square().sum(dim=1) / 2).float()
    targets = centroids.float().T.contiguous()

    def find(block: slice) -> tuple[np.ndarray, np.ndarray]:
        place, similarity = best_of_rows((points[block] @ targets).sub_(half_squares), 1)
        squared = points[block].double().square().sum(dim=1) - 2 * similarity[:, 0].double()
        return place[:, 0].cpu().numpy(), squared.clamp(min=0).cpu().numpy()

    blocks = (slice(first, first + _BLOCK_POINTS) for first in range(0, len(points), _BLOCK_POINTS))
    nearest, squared = zip(*map_blocks(find, blocks, points.device, may_cut=False), strict=True)
    return np.concatenate(nearest), np.concatenate(squared)
