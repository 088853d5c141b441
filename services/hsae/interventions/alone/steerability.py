"""How many latents steer: each alone is driven to the top of its natural range, and the readout's distribution moves.

How far a unit moves a readout is the total variation between its mean distributions over the images, before and after:

    shift = 1/2 sum_c |mean_i p'_ic - mean_i p_ic|

The means are compared, and not the distributions of single images: a unit that pushes every image to classes of its
own scrambles and does not steer. The steerability of a layer is the share of units with a shift of at least a given
amount. Joseph et al. (arXiv 2504.08729) ask which features of CLIP's vision transformer steer its output, in every
layer and against neurons; public text does not print their formula, and this one is ours.

The natural range ends at a high quantile of the unit's own values on the images that select: of a latent's positive
activations, of a neuron's values up or down (drawn at random), of the projection on a random direction.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from scipy.special import softmax
from torch import Tensor

from hsae.errors import UserError
from hsae.interventions.edits import ProjectionEdit
from hsae.interventions.measure import Reader, ScoredBatch
from hsae.interventions.passes import Intervention, outcomes
from hsae.interventions.readouts import Readout

ImageRows = Float32[np.ndarray, "n_images n_tokens d_model"]
"""The rows of images: several of patch tokens, else one."""
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True, eq=False)
class Shifts:
    """How far each intervention moved each readout.

    Attributes:
        readouts: those that have probabilities.
        shift: total variation between the mean distributions.
        moved: mean squared change of the row that readouts see, over the variance of the unedited rows.
        n_images: the images.
    """

    readouts: tuple[Readout, ...]
    shift: Float64[np.ndarray, "n_readouts n"]
    moved: Float64[np.ndarray, "n"]
    n_images: int


@dataclass(frozen=True, slots=True, eq=False)
class Driven:
    """Unit directions, and the value to which the projection on each is driven."""

    directions: Float32[np.ndarray, "n d_model"]
    tops: Float64[np.ndarray, "n"]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of units, with its 95 % Wilson interval."""

    value: float
    low: float
    high: float


def shifts(
    batches: Iterable[ScoredBatch],
    interventions: Sequence[Intervention],
    reader: Reader,
    *,
    check: Callable[[], None] = lambda: None,
) -> Shifts:
    """Run every intervention on every batch, and compare mean distributions.

    Args:
        batches: the images.
        interventions: one for each unit.
        reader: how they are read; readouts without probabilities are left out.
        check: called before each pass; may raise to stop.

    Raises:
        UserError: there is no image, or no readout with probabilities.
    """
    n_images, kept = 0, reader.readouts
    sums: Float64[np.ndarray, "n_readouts n_all n_classes"] | None = None
    # Added up on the device, which nobody waits for in between.
    moved, total, squares = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    with torch.no_grad():
        for batch in batches:
            start, last = reader.layer, reader.last
            plain = batch.blocks.resume(batch.stream, start, last) if last > start else batch.stream
            rows = reader.rows(plain).double()
            if sums is None:
                kept = tuple(each for each in reader.readouts if each.read(plain).logits is not None)
                if not kept:
                    raise UserError("no readout has probabilities, which steering moves: add probe or classifier")
                sums = np.zeros((len(kept), 1 + len(interventions), len(reader.tree.inside)))
                moved = rows.new_zeros(len(interventions))
            sums[:, 0] += _summed(kept, plain)
            total = total + rows.sum(0)
            squares = squares + (rows**2).sum()
            found = outcomes(batch.blocks, start, batch.stream, interventions, last, check)
            for at, stream in enumerate(found):
                sums[:, at + 1] += _summed(kept, stream)
                moved[at] += ((reader.rows(stream).double() - rows) ** 2).sum()
            n_images += len(batch.labels)
    if sums is None:
        raise UserError("no image is left to score: give more images, or another split")
    means = sums / n_images
    mean = total.cpu().numpy() / n_images
    spread = float(squares) / n_images - float(mean @ mean)
    of_each = moved.cpu().numpy() / n_images / spread if spread > 0 else np.full(len(moved), np.nan)
    return Shifts(kept, np.abs(means[:, 1:] - means[:, :1]).sum(axis=2) / 2, of_each, n_images)


def share_of(shift: Float64[np.ndarray, "n"], amount: float) -> Share:
    """The share of units that shift a readout by at least so much; with no unit all is NaN."""
    n = len(shift)
    if not n:
        return Share(float("nan"), float("nan"), float("nan"))
    share = float((shift >= amount).mean())
    scale = 1 + _Z95**2 / n
    middle = (share + _Z95**2 / (2 * n)) / scale
    reach = _Z95 / scale * (share * (1 - share) / n + _Z95**2 / (4 * n**2)) ** 0.5
    return Share(share, max(0.0, middle - reach), min(1.0, middle + reach))


def driven_neurons(x: ImageRows, n_units: int, quantile: float, seed: int) -> Driven:
    """Neurons, drawn at random, each up or down at random.

    Args:
        x: rows of the layer, of images that select.
        n_units: as many, or all neurons if there are fewer.
        quantile: of the values in that direction, of an image the greatest of its rows.
        seed: of the draw.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    d_model = x.shape[2]
    neurons = np.sort(rng.choice(d_model, min(n_units, d_model), replace=False))
    directions = np.zeros((len(neurons), d_model), np.float32)
    directions[np.arange(len(neurons)), neurons] = rng.integers(0, 2, len(neurons)) * 2 - 1
    return Driven(directions, _tops(x, directions, quantile))


def driven_directions(x: ImageRows, n_units: int, quantile: float, seed: int) -> Driven:
    """Random unit directions; arguments as `driven_neurons`."""
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = rng.normal(size=(n_units, x.shape[2]))
    directions = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return Driven(directions, _tops(x, directions, quantile))


def driven_edits(driven: Driven, device: torch.device) -> list[ProjectionEdit]:
    """The edits after which the projection on each direction is its top in every row."""
    units = torch.from_numpy(driven.directions).to(device)
    return [
        ProjectionEdit(unit * top, unit[None], unit[None], 0.0)
        for unit, top in zip(units, driven.tops.tolist(), strict=True)
    ]


def _tops(x: ImageRows, directions: Float32[np.ndarray, "n d_model"], quantile: float) -> Float64[np.ndarray, "n"]:
    values = (x @ directions.T).max(axis=1).astype(np.float64)
    return np.asarray(np.quantile(values, quantile, axis=0))


def _summed(readouts: Sequence[Readout], stream: Tensor) -> Float64[np.ndarray, "n_readouts n_classes"]:
    found = []
    for readout in readouts:
        logits = readout.read(stream).logits
        if logits is None:
            raise ValueError(f"the readout {readout.name} has probabilities of some images alone")
        found.append(softmax(logits, axis=1).sum(axis=0))
    return np.stack(found)
