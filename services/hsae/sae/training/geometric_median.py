"""The geometric median: the point with the least summed distance to all rows, robust against outliers."""

import torch
from jaxtyping import Float
from torch import Tensor


def geometric_median(
    rows: Float[Tensor, "n_rows d_model"], *, max_iterations: int = 200, tolerance: float = 1e-7
) -> Float[Tensor, "d_model"]:
    """The point `m` that minimises `sum_i |rows[i] - m|`, float64[d_model] on the CPU.

    Weiszfeld's iteration in the form of Vardi and Zhang (PNAS 97(4), 2000), which stays defined and still
    converges when an iterate coincides with a row. It starts at the mean and ends when a step is shorter than
    `tolerance` times the mean distance. All of it is float64, so the result does not depend on the device.

    Raises:
        ValueError: there are no rows.
    """
    if rows.ndim != 2 or rows.shape[0] == 0:
        raise ValueError(f"geometric_median needs at least one row in a matrix, got the shape {tuple(rows.shape)}")
    points = rows.detach().to("cpu", torch.float64)
    median = points.mean(dim=0)
    for _ in range(max_iterations):
        distances = torch.linalg.vector_norm(points - median, dim=1)
        mean_distance = float(distances.mean())
        coincident = distances <= 1e-12 * mean_distance
        n_coincident = int(coincident.sum())
        if n_coincident == points.shape[0]:
            break
        weights = torch.where(coincident, torch.zeros_like(distances), 1.0 / distances.clamp_min(1e-300))
        target = (weights @ points) / weights.sum()
        pull = float(torch.linalg.vector_norm((target - median) * weights.sum()))
        if pull <= n_coincident:  # the rows under the iterate outweigh the pull of all others: it is the median
            break
        step = (1.0 - n_coincident / pull) * (target - median)
        median = median + step
        if float(torch.linalg.vector_norm(step)) <= tolerance * mean_distance:
            break
    return median
