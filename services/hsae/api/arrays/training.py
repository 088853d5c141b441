"""`hsae.train`: activations to a sparse autoencoder, in memory."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Int

from hsae.api.arrays.device import chosen_device
from hsae.api.arrays.encoding import as_rows, latents_of
from hsae.api.frames import frame, html_table
from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.evaluation.metrics import SaeMetrics
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.trainer import StepReport
from hsae.sae.training.trainer import train as train_on_rows

if TYPE_CHECKING:
    import pandas as pd

_LOSSES = ("loss", "reconstruction_loss", "sparsity_loss", "auxiliary_loss")
_SHOWN = {"rows": "rows", "fvu": "FVU", "cosine": "cosine", "l0": "L0", "dead_share": "dead share"}


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained SAE.

    Attributes:
        sae: a torch module in eval mode, on the CPU, with `encode`, `decode` and `forward`.
        metrics: reconstruction and sparsity on held-out and on training rows.
        points: those of its curve, by step.
    """

    sae: SparseAutoencoder
    metrics: SaeMetrics
    points: tuple[dict[str, Any], ...] = ()

    @property
    def config(self) -> SaeConfig:
        """How it was trained."""
        return self.sae.config

    def encode(self, x: Any) -> "sp.csr_array[np.float32]":
        """The latents of activations, float32[n_images, n_latents] as a sparse matrix: what `hsae.score` takes.

        Args:
            x: float[n_images, d_model], or float[n_images, n_tokens, d_model]: then a latent's greatest activation.

        Raises:
            UserError: the shape does not fit, or a value is NaN or infinite.
        """
        return latents_of(self.sae, x)

    def curve(self) -> "pd.DataFrame":
        """The points of the training by step: losses, FVU and L0 of held-out and training rows, dead share.

        Raises:
            UserError: pandas is missing.
        """
        return frame(self.points)

    def _repr_html_(self) -> str:
        figures = asdict(self.metrics)
        held_out = {name: figures[name] for name in ("fvu", "cosine", "l0")}
        rows = [
            {"rows": "held out", **held_out, "dead_share": figures["holdout_dead_share"]},
            {"rows": "training", **{name: figures[f"train_{name}"] for name in (*held_out, "dead_share")}},
        ]
        return html_table(repr(self)[1:-1], rows, _SHOWN)

    def __repr__(self) -> str:
        fvu = self.metrics.train_fvu if self.metrics.fvu is None else self.metrics.fvu
        l0 = self.metrics.train_l0 if self.metrics.l0 is None else self.metrics.l0
        shown = "undefined" if fvu is None else f"{fvu:.3f}"
        return f"<Trained: {self.config.kind} SAE, {self.sae.n_latents} latents, FVU {shown}, L0 {l0:.1f}>"


def train(
    x: Any,
    config: SaeConfig | None = None,
    *,
    images: Sequence[int] | Int[np.ndarray, "n_rows"] | None = None,
    device: str = "auto",
    on_step: Callable[[StepReport], None] = lambda report: None,
    **settings: Any,
) -> Trained:
    """Train a sparse autoencoder on activations, without any server: the pipeline's own trainer.

    Args:
        x: float[n_rows, d_model]; or float[n_images, n_tokens, d_model], of which every token is a row.
        config: how the SAE is trained; or give its settings by name: `hsae.train(x, kind="topk", k=16, expansion=4)`.
        images: the image of every row, so that an image is held out as a whole; None: every row is an image of its own
            (of x with tokens: every first index).
        device: "auto", "cpu" or "cuda".
        on_step: called after every step; an error that it raises ends the training.
        settings: of the SAE, where there is no `config`.

    Raises:
        UserError: a setting or the shape does not fit, or the rows hold NaN or infinity, are too few or all equal.
    """
    if config is not None and settings:
        raise UserError(f"give a config or settings, not both: {', '.join(settings)} are given beside a config")
    if config is not None and not isinstance(config, SaeConfig):
        raise UserError(
            f"the config is a {type(config).__name__}: give an hsae.SaeConfig, or its settings by name such as"
            ' hsae.train(x, kind="topk", k=16)'
        )
    config = SaeConfig.parse(settings) if config is None else config
    rows, n_tokens = as_rows(x)
    given = np.arange(len(rows)) // n_tokens if images is None else np.asarray(images)
    if given.shape != (len(rows),) or given.dtype.kind not in "iu":
        raise UserError(
            f"images is {given.dtype}{list(given.shape)}: give one whole number for each of the {len(rows)} rows"
        )
    view = torch.zeros(len(rows), dtype=torch.int16)
    points = []

    def take(report: StepReport) -> None:
        if report.measure is not None:
            losses = {name: getattr(report, name) for name in _LOSSES}
            points.append({"step": report.step, **losses, **asdict(report.measure())})
        on_step(report)

    trained = train_on_rows(
        config,
        TrainingRows(rows, torch.from_numpy(given.astype(np.int64)), view),
        device=chosen_device(device),
        on_step=take,
    )
    return Trained(trained.sae.eval().requires_grad_(False), trained.metrics, tuple(points))
