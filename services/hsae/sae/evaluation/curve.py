"""Points of a training's curve: the SAE measured on few rows that stay the same, at steps that depend on nothing else.

A training that goes on from a checkpoint measures the same points and finds the same numbers.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import ChunkedRows
from hsae.sae.rows.split import RowSplit, subsample
from hsae.sae.schedule import Schedule

MOST_POINTS = 200
_FEWEST_POINTS = 10
_MOST_ROWS = 1_024
_TRAINED_ROWS_PER_MEASURED = 32
_BLOCK_VALUES = 1 << 24  # latents at once: 64 MB


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The SAE after a step, on few rows of view 0.

    Attributes:
        fvu: fraction of variance unexplained on held-out rows; None: none are held out, or they do not vary.
        l0: mean number of firing latents, held-out rows; None: none are held out.
        train_fvu: fraction of variance unexplained on training rows; None: they do not vary.
        train_l0: mean number of firing latents, training rows.
        dead_share: share of the latents that fired on no row of the last steps, as the auxiliary loss counts them.
        learning_rate: that of the step.
    """

    fvu: float | None
    l0: float | None
    train_fvu: float | None
    train_l0: float
    dead_share: float
    learning_rate: float


class CurveMeasure:
    """At most 1,024 held-out rows and as many training rows, drawn with the seed, and how many points there are."""

    def __init__(self, rows: ChunkedRows, split: RowSplit, schedule: Schedule, seed: int, device: torch.device) -> None:
        """Read nothing yet; the first point that is measured does."""
        self._source = rows
        self._positions = [subsample(some, _MOST_ROWS, seed) for some in (split.holdout, split.measured_train)]
        self._device = device
        self._schedule = schedule
        self.n_points = n_points(schedule, sum(map(len, self._positions)))

    @cached_property
    def _rows(self) -> tuple[Float[Tensor, "n_evaluation d_model"], Float[Tensor, "n_evaluation d_model"]]:
        """Held-out rows and training rows on the training's device."""
        holdout, train = (_read(self._source, positions, self._device) for positions in self._positions)
        return holdout, train

    @property
    def watched(self) -> Float[Tensor, "n_evaluation d_model"]:
        """The held-out rows; the training rows where none are held out."""
        holdout, train = self._rows
        return holdout if len(holdout) else train

    def is_due(self, step: int) -> bool:
        """Whether the SAE is measured after so many steps."""
        return is_point(step, self._schedule.n_steps, self.n_points)

    def measure(self, sae: SparseAutoencoder, *, dead_share: float, learning_rate: float) -> CurvePoint:
        """Measure the SAE, of which nothing changes; what the trainer knows of the step is handed through."""
        holdout, train = self._rows
        fvu, l0 = _measured(sae, holdout) if len(holdout) else (None, None)
        train_fvu, train_l0 = _measured(sae, train)
        return CurvePoint(fvu, l0, train_fvu, train_l0, dead_share, learning_rate)


def n_points(schedule: Schedule, n_measured: int) -> int:
    """How many points a curve has: at most 200, and no more than cost the training about 1 % of its time.

    A row that is measured goes through the SAE once, without a gradient; at most one does for 32 that are trained on.
    A curve has 10 points at least, and never more than steps.
    """
    affordable = schedule.n_steps * schedule.batch_size // (_TRAINED_ROWS_PER_MEASURED * n_measured)
    return min(schedule.n_steps, max(_FEWEST_POINTS, min(MOST_POINTS, affordable)))


def is_point(step: int, n_steps: int, n_points: int) -> bool:
    """Whether the step (from 1) is one of `n_points` evenly spaced ones; the last step is one."""
    return step * n_points // n_steps != (step - 1) * n_points // n_steps


def _read(rows: ChunkedRows, positions: Int[Tensor, "n"], device: torch.device) -> Float[Tensor, "n d_model"]:
    chunks = list(rows.chunks(positions, _MOST_ROWS))
    return torch.cat(chunks).to(device) if chunks else torch.empty(0, rows.d_model, device=device)


@torch.no_grad()
def _measured(sae: SparseAutoencoder, x: Float[Tensor, "n d_model"]) -> tuple[float | None, float]:
    """FVU (float64; None where the rows do not vary, or it is not finite) and mean L0."""
    residual = torch.zeros((), dtype=torch.float64, device=x.device)
    n_firing = torch.zeros((), dtype=torch.int64, device=x.device)
    for part in torch.split(x, max(1, _BLOCK_VALUES // sae.n_latents)):
        z = sae.encode(part)
        residual += (part.to(torch.float64) - sae.decode(z).to(torch.float64)).square().sum()
        n_firing += (z > 0).sum()
    exact = x.to(torch.float64)
    variance = (exact - exact.mean(dim=0)).square().sum()
    fvu = float(residual / variance) if float(variance) > 0 and bool(torch.isfinite(residual)) else None
    return fvu, int(n_firing) / len(x)
