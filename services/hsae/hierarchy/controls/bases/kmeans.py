"""k-means: exemplars that are averaged over similar train images."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from hsae.hierarchy.controls.bases.baseline import Baseline
from hsae.hierarchy.controls.bases.columns import LinearColumns
from hsae.hierarchy.controls.bases.exemplar import cosines
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.hierarchy.kernels.back_off import in_parts, once_more
from hsae.hierarchy.kernels.blocks import go_on, latent_blocks
from hsae.hierarchy.kernels.device import is_cpu, row_sums, to_device, to_host
from hsae.hierarchy.kernels.greatest import best_of_rows
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.vocabulary.bases import ControlBasis

MAX_ROUNDS = 10
"""Rounds of Lloyd's algorithm; with few points per cluster it ends earlier."""

N_DIMENSIONS = 64
"""Principal components in which clusters are found: distances in all of them would cost as much as the SAE."""

_BLOCK_POINTS = 1024
_BLOCK_NUMBERS_GPU = 1 << 26
"""Similarities to centroids, or coordinates of points, that a GPU has at once; no fewer points than a CPU."""
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
        train = to_device(given.train_images, given.device)
        points = given.centred[train] * given.inverse_length[train][:, None]
        near = points
        if points.shape[1] > N_DIMENSIONS:
            axes = to_device(given.principal_directions[:N_DIMENSIONS].T.astype(np.float32, order="C"), given.device)
            near = once_more(partial(torch.matmul, points, axes), given.device)
        n_clusters = max(1, min(given.n_latents, len(points) // 2))
        start = first_centroids(near, n_clusters, np.random.Generator(np.random.PCG64(seed)), check=given.check)
        _, size, centroids = means(points, lloyd(near, start, check=given.check))
        return cosines(given, to_host({"centroids": centroids})["centroids"], np.argsort(-size, kind="stable"))


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
    fewer than `n_clusters` are drawn if the points have fewer different values. The host waits for a GPU once per pass.
    """
    at_once = max(1, n_clusters // _DRAWS)
    drawn = [np.array([rng.integers(len(points))])]
    n_drawn = 1
    squared = np.full(len(points), np.inf)
    while n_drawn < n_clusters:
        check()
        np.minimum(squared, _nearest(points, points[to_device(drawn[-1], points.device)].double())[1], out=squared)
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
    sums. A cluster that loses all of its points keeps its centroid. The host waits for a GPU once per round, for the
    cluster of every point.
    """
    centroids = points[to_device(start, points.device)].double()
    cluster = np.full(len(points), -1)
    for _ in range(MAX_ROUNDS):
        check()
        nearest, _ = _nearest(points, centroids)
        if np.array_equal(nearest, cluster):
            break
        cluster = nearest
        used, _, moved = means(points, cluster)
        centroids.index_copy_(0, to_device(used, points.device), moved)
    return cluster


def means(
    points: Float32[Tensor, "n d"], cluster: Int64[np.ndarray, "n"]
) -> tuple[Int64[np.ndarray, "m"], Int64[np.ndarray, "m"], Float64[Tensor, "m d"]]:
    """The clusters that have points, ascending; their numbers of points; their means, on the device of the points.

    On a GPU a cluster's points are added up in their order, and nothing is fetched.
    """
    by_cluster = np.argsort(cluster, kind="stable")
    used, size = np.unique(cluster, return_counts=True)
    ends = np.concatenate(([0], np.cumsum(size)))
    if not is_cpu(points.device):
        order, length = to_device(by_cluster, points.device), to_device(size, points.device)

        def add_up(clusters: slice) -> Tensor:
            chosen = points.index_select(0, order[ends[clusters.start] : ends[clusters.stop]]).double()
            return row_sums(chosen, length[clusters]) / length[clusters].double()[:, None]

        blocks = latent_blocks(ends, max_nonzeros=max(_BLOCK_POINTS, _BLOCK_NUMBERS_GPU // points.shape[1]))
        return used, size, torch.cat(list(in_parts(add_up, blocks, points.device)))
    mean = np.empty((len(used), points.shape[1]))
    for block in latent_blocks(ends, max_nonzeros=_BLOCK_POINTS):
        first, end = ends[block.start], ends[block.stop]
        chosen = points[torch.from_numpy(by_cluster[first:end])].double().numpy()
        mean[block] = np.add.reduceat(chosen, ends[block] - first, axis=0)
    return used, size, torch.from_numpy(mean / size[:, np.newaxis])


def _nearest(
    points: Float32[Tensor, "n d"], centroids: Float64[Tensor, "n_clusters d"]
) -> tuple[Int64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """The nearest centroid of every point, and its squared distance; the host waits for a GPU once."""
    half_squares = (centroids.square().sum(dim=1) / 2).float()
    targets = centroids.float().T.contiguous()

    def find(block: slice) -> tuple[Tensor, Tensor]:
        place, similarity = best_of_rows((points[block] @ targets).sub_(half_squares), 1)
        squared = points[block].double().square().sum(dim=1) - 2 * similarity[:, 0].double()
        return place[:, 0], squared.clamp(min=0)

    # Its size decides last digits of the products, so that it is the same whatever memory is left.
    height = _BLOCK_POINTS
    if not is_cpu(points.device):
        height = max(height, _BLOCK_NUMBERS_GPU // len(centroids))
    blocks = (slice(first, first + height) for first in range(0, len(points), height))
    nearest, squared = zip(*map_blocks(find, blocks, points.device, may_cut=False), strict=True)
    found = to_host({"nearest": torch.cat(nearest), "squared": torch.cat(squared)})
    return found["nearest"], found["squared"]
