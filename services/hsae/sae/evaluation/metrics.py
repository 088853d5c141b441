"""How well an SAE reconstructs, and how sparsely: measured after training, on rows of plain images only."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from hsae.devices.uploads import uploaded
from hsae.sae.evaluation.evaluation import Evaluation
from hsae.sae.evaluation.firing import Firing
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import ChunkedRows
from hsae.sae.rows.split import RowSplit

_BATCH_ROWS = 2_048


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Means over the measured rows, and what fires on them.

    Attributes:
        fvu: fraction of variance unexplained, `sum |x - x_hat|^2 / sum |x - mean(x)|^2`; None if the rows do not vary.
        cosine: mean cosine of x and x_hat, raw activations, not centred.
        l0: mean number of positive latents per row.
        l1: mean sum of the latents of a row, in scaled space.
        dead_share: share of the latents that fire on none of the rows.
        n_rows: number of measured rows.
        firing: the firing latents by row and by latent.
    """

    fvu: float | None
    cosine: float
    l0: float
    l1: float
    dead_share: float
    n_rows: int
    firing: Firing


@dataclass(frozen=True, slots=True)
class SaeMetrics:
    """Quality of a trained SAE. See `Reconstruction` for `fvu`, `cosine`, `l0`, `l1` and the dead shares.

    Those of held-out images are over all their rows of view 0, and None where nothing was held out. Those of training
    images are over as many of their rows of view 0 (`RowSplit.measured_train`), so that the two can be compared.

    Attributes:
        fvu: fraction of variance unexplained, held-out images.
        cosine: mean cosine, held-out images.
        l0: mean number of positive latents, held-out images.
        l1: mean sum of the latents, held-out images.
        holdout_dead_share: share of the latents that fire on no measured row of held-out images.
        train_fvu: fraction of variance unexplained, training images.
        train_cosine: mean cosine, training images.
        train_l0: mean number of positive latents, training images.
        train_l1: mean sum of the latents, training images.
        train_dead_share: share of the latents that fire on no measured row of training images.
        dead_share: share of the latents that fire on no row of view 0, held out or not.
        n_train_rows: rows trained on, including augmented views.
        n_train_rows_measured: rows over which the figures of training images are.
        n_holdout_rows: measured rows of held-out images; 0: nothing was held out.
        batch_size: rows per step.
        n_steps: steps.
        loss: total loss of the last step's batch, see `losses`.
        reconstruction_loss: its reconstruction term.
        sparsity_loss: its sparsity term.
        auxiliary_loss: its auxiliary term.
        rate_halvings: how often the learning rate was halved because a number was no longer finite.
        of_kind: what only this kind has to say, see `SaeVariant.own_metrics`.
        evaluation: quantiles of L0, densities, alignment and coherence, held-out beside training rows.
    """

    fvu: float | None
    cosine: float | None
    l0: float | None
    l1: float | None
    holdout_dead_share: float | None
    train_fvu: float | None
    train_cosine: float
    train_l0: float
    train_l1: float
    train_dead_share: float
    dead_share: float
    n_train_rows: int
    n_train_rows_measured: int
    n_holdout_rows: int
    batch_size: int
    n_steps: int
    loss: float
    reconstruction_loss: float
    sparsity_loss: float
    auxiliary_loss: float
    rate_halvings: int
    of_kind: Mapping[str, float | bool]
    evaluation: Evaluation


@torch.no_grad()
def measure_reconstruction(
    sae: SparseAutoencoder, rows: ChunkedRows, positions: Int[Tensor, "n"], device: torch.device
) -> Reconstruction:
    """Measure the SAE (on `device`) on some rows; sums are float64, in two passes over the rows."""
    n_rows = positions.shape[0]
    mean = torch.zeros(sae.d_model, dtype=torch.float64, device=device)
    for chunk in rows.chunks(positions, _BATCH_ROWS):
        mean += uploaded(chunk, device).to(torch.float64).sum(dim=0)
    mean /= n_rows
    totals = torch.zeros(4, dtype=torch.float64, device=device)
    latents_per_row = []
    rows_per_latent = torch.zeros(sae.n_latents, dtype=torch.int64, device=device)
    for chunk in rows.chunks(positions, _BATCH_ROWS):
        x = uploaded(chunk, device)
        z = sae.encode(x)
        fires = z > 0
        latents_per_row.append(fires.sum(dim=1))
        rows_per_latent += fires.sum(dim=0)
        x_hat = sae.decode(z).to(torch.float64)
        exact = x.to(torch.float64)
        totals += torch.stack(
            [
                (exact - x_hat).square().sum(),
                (exact - mean).square().sum(),
                torch.cosine_similarity(exact, x_hat, dim=1).sum(),
                z.sum(dtype=torch.float64),
            ]
        )
    residual, variance, cosine, z_sum = totals.tolist()
    firing = Firing(torch.cat(latents_per_row).cpu().numpy(), rows_per_latent.cpu().numpy())
    return Reconstruction(
        fvu=residual / variance if variance > 0 else None,
        cosine=cosine / n_rows,
        l0=int(firing.latents_per_row.sum()) / n_rows,
        l1=z_sum / n_rows,
        dead_share=_share_false(rows_per_latent > 0),
        n_rows=n_rows,
        firing=firing,
    )


@torch.no_grad()
def mean_l0(sae: SparseAutoencoder, x: Float[Tensor, "n d_model"]) -> Float64[Tensor, ""]:
    """The mean number of positive latents of raw activations, on the SAE's device, which also has the activations."""
    n_positive = (sae.encode(x) > 0).sum().double()
    return n_positive / torch.full_like(n_positive, x.shape[0])


@torch.no_grad()
def dead_share(sae: SparseAutoencoder, rows: ChunkedRows, split: RowSplit, device: torch.device) -> float:
    """The share of the latents that fire on none of the view-0 rows."""
    fired = torch.zeros(sae.n_latents, dtype=torch.bool, device=device)
    for chunk in rows.chunks(split.plain, _BATCH_ROWS):
        fired |= (sae.encode(uploaded(chunk, device)) > 0).any(dim=0)
    return _share_false(fired)


def _share_false(fired: Bool[Tensor, "n_latents"]) -> float:
    return 1.0 - int(fired.sum()) / fired.shape[0]
