"""Controls: what other parts of the same activations do when they are taken away in the same places.

random      latents that fire as often, and as strongly, as those of the node
neurons     as many raw neurons, those that tell the node apart best
probe       the direction of a linear probe of the node in the same layer
class_mean  the difference of the mean activations inside and outside
leace       all that a linear probe could read of the node (LEACE, arXiv 2306.03819)
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from hsae.errors import UserError
from hsae.hierarchy.probes.ridge_probe import ridge_scores
from hsae.interventions.choice import LatentUse
from hsae.interventions.config import Control
from hsae.interventions.edits import ProjectionEdit

_CANDIDATES = 10
"""Each random latent is one of so many that are nearest to the one that it stands for."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A `ProjectionEdit` without its dose."""

    mean: Float64[np.ndarray, "d_model"]
    read: Float64[np.ndarray, "rank d_model"]
    write: Float64[np.ndarray, "rank d_model"]

    def edit(self, gamma: float, device: torch.device) -> ProjectionEdit:
        """The edit with a dose."""
        mean, read, write = (
            torch.from_numpy(values).to(device, torch.float32) for values in (self.mean, self.read, self.write)
        )
        return ProjectionEdit(mean, read, write, gamma)


def random_latents(
    chosen: Int64[np.ndarray, "n_chosen"], use: LatentUse, norms: Float64[np.ndarray, "n_latents"], seed: int
) -> Int64[np.ndarray, "n_chosen"]:
    """For every chosen latent another one that fires about as often and adds about as much.

    It is drawn from the ten latents, not chosen or drawn before, that are nearest in (log density, log of the mean
    activation where it fires times the norm of its direction), each in units of its standard deviation (ours).

    Args:
        chosen: the latents of the node.
        use: how the latents fire.
        norms: of the latents' directions.
        seed: of the draw.

    Raises:
        UserError: too few latents ever fire.
    """
    alive = use.density > 0
    free = alive.copy()
    free[chosen] = False
    if free.sum() < len(chosen):
        raise UserError(
            f"{len(chosen)} random latents are asked for, and only {int(free.sum())} others ever fire: choose fewer"
            " latents, or leave out the control random"
        )
    amount = use.typical * norms
    places = np.zeros((len(alive), 2))
    places[alive] = np.column_stack((np.log(use.density[alive]), np.log(np.maximum(amount[alive], 1e-30))))
    spread = places[alive].std(axis=0)
    places /= np.where(spread > 0, spread, 1.0)
    rng = np.random.Generator(np.random.PCG64(seed))
    found = []
    for latent in chosen.tolist():
        candidates = np.flatnonzero(free)
        away = ((places[candidates] - places[latent]) ** 2).sum(axis=1)
        nearest = candidates[np.lexsort((candidates, away))][:_CANDIDATES]
        found.append(int(rng.choice(nearest)))
        free[found[-1]] = False
    return np.array(sorted(found), np.int64)


def projection(
    control: Control,
    x: Float32[np.ndarray, "n d_model"],
    is_inside: Bool[np.ndarray, "n"],
    n_neurons: int,
    node: str,
) -> Projection:
    """What a control takes away, learnt on rows of the layer that train.

    Args:
        control: neurons, probe, class_mean or leace.
        x: rows of the layer.
        is_inside: whether a row's image is under the node.
        n_neurons: how many neurons.
        node: its name, for the message.

    Raises:
        UserError: all images that train are inside, or all are outside.
    """
    if is_inside.all() or not is_inside.any():
        where = "inside" if is_inside.all() else "outside"
        raise UserError(
            f"all images that train are {where} {node}, so that its controls cannot be learnt: choose another node"
        )
    exact = x.astype(np.float64)
    mean = exact.mean(axis=0)
    if control == "neurons":
        return _neurons(exact, is_inside, mean, n_neurons)
    if control == "leace":
        return leace(exact, is_inside)
    if control == "probe":
        direction = ridge_scores(x, is_inside.astype(np.int64)).weight[:, 1]
    else:
        direction = exact[is_inside].mean(axis=0) - exact[~is_inside].mean(axis=0)
    length = float(np.linalg.norm(direction))
    unit = (direction / length if length > 0 else direction)[np.newaxis]
    return Projection(mean, unit, unit)


def leace(x: Float64[np.ndarray, "n d_model"], is_inside: Bool[np.ndarray, "n"]) -> Projection:
    """Least-squares concept erasure of one binary concept (Belrose et al. 2023, arXiv 2306.03819, theorem 4.3).

    r(x) = x - W^+ P W (x - E x), W = (Sigma_xx^(1/2))^+, P the orthogonal projection onto the column of W Sigma_xz.
    With u the unit vector along W sigma_xz it is x - (W^+ u) (u^T W (x - E x)). No linear probe of r(x) does better
    than a constant, and no other such affine map moves the rows less.

    Args:
        x: rows.
        is_inside: the concept.
    """
    mean = x.mean(axis=0)
    centred = x - mean
    covariance = centred.T @ centred / len(x)
    concept = is_inside.astype(np.float64)
    cross = centred.T @ (concept - concept.mean()) / len(x)
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * values.max(initial=0.0)
    roots, axes = np.sqrt(values[kept]), vectors[:, kept]
    white = (axes.T @ cross) / roots  # W sigma_xz along the axes
    length = float(np.linalg.norm(white))
    u = white / length if length > 0 else white
    return Projection(mean, (axes @ (u / roots))[np.newaxis], (axes @ (u * roots))[np.newaxis])


def _neurons(
    x: Float64[np.ndarray, "n d_model"],
    is_inside: Bool[np.ndarray, "n"],
    mean: Float64[np.ndarray, "d_model"],
    n_neurons: int,
) -> Projection:
    """The neurons whose means inside and outside are furthest apart, in units of their standard deviation."""
    spread = x.std(axis=0)
    apart = np.abs(x[is_inside].mean(axis=0) - x[~is_inside].mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    chosen = np.sort(np.lexsort((np.arange(len(apart)), -apart))[: min(n_neurons, len(apart))])
    axes = np.eye(len(mean))[chosen]
    return Projection(mean, axes, axes)
