"""The SAE before its first step."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.config import SaeConfig, check_config, initial_l0
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import ChunkedRows, RowSource
from hsae.sae.rows.split import RowSplit, split_rows, subsample
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.rows.training_data import split_of_stream
from hsae.sae.training.geometric_median import geometric_median

MEDIAN_ROWS = 8_192
_CHUNK_ROWS = 16_384
_CHUNK_LATENTS = 1_024


def initialise(config: SaeConfig, rows: ChunkedRows, split: RowSplit) -> SparseAutoencoder:
    """An untrained SAE on the CPU, fitted to the position and scale of the training rows, but not to their shape.

    - input_scale: centred rows have the length sqrt(d_model) on average over all training rows (where they are
      streamed: over a sample, see `StreamedSplit`);
    - pre_bias: the geometric median of the training rows (of 8,192 of them, drawn with the seed, if there are more);
    - decoder: random directions of unit norm, or what the kind fits (`SaeVariant.fit`); encoder: the same directions;
    - encoder bias: every latent's pre-activation is positive on the same share of the training rows (of the same
      8,192), the share at which `initial_l0` latents fire on a row. Without it, most directions of an anisotropic layer
      are never among the strongest of any row, and a ReLU SAE starts dense and loses latents while its L1 penalty makes
      it sparse.
    - further tensors of a kind: by its own `initialise`.

    Raises:
        UserError: all rows are equal.
    """
    sample = next(rows.chunks(subsample(split.train, MEDIAN_ROWS, config.seed), MEDIAN_ROWS)).cpu()
    median = geometric_median(sample)
    spread = _mean_distance(rows, split, median)
    if not spread > 1e-9 * float(median.norm()):
        raise UserError(
            f"all {split.train.shape[0]} training rows are equal (zero variance), there is nothing to learn: "
            "choose a deeper layer or other images"
        )
    sae = SparseAutoencoder(config, rows.d_model)
    input_scale = math.sqrt(sae.d_model) / spread
    directions = initial_directions(sae.n_latents, sae.d_model, config.seed)
    with torch.no_grad():
        sae.input_scale.fill_(input_scale)
        sae.pre_bias.copy_(median * input_scale)
        sae.decoder_weight.copy_(directions)
        centred = sae.scale_inputs(sample) - sae.pre_bias
        config.variant.fit(sae, centred, config.seed)
        sae.encoder_weight.copy_(sae.decoder_weight)
        firing_share = initial_l0(config, sae.d_model) / sae.n_latents
        sae.encoder_bias.copy_(-firing_thresholds(centred, sae.decoder_weight, firing_share))
        config.variant.initialise(sae)
    return sae


def initial_directions(n_latents: int, d_model: int, seed: int) -> Float[Tensor, "n_latents d_model"]:
    """The decoder of an untrained SAE: random directions of unit norm."""
    directions = torch.randn(n_latents, d_model, generator=torch.Generator().manual_seed(seed))
    directions /= directions.norm(dim=1, keepdim=True)
    return directions


def untrained_sae(config: SaeConfig, rows: RowSource | StreamedRows) -> SparseAutoencoder:
    """The SAE that `train` would start from: the control "an untrained SAE".

    Args:
        config: how the SAE is trained.
        rows: finite rows (see `check_rows`), which are read twice.

    Raises:
        UserError: the config does not fit the rows, or all rows are equal.
    """
    check_config(config, rows.d_model)
    if isinstance(rows, StreamedRows):
        return initialise(config, rows, split_of_stream(config, rows).samples)
    return initialise(config, rows, split_rows(rows, holdout_share=config.holdout_share, seed=config.seed))


def firing_thresholds(
    centred: Float[Tensor, "n_rows d_model"], directions: Float[Tensor, "n_latents d_model"], firing_share: float
) -> Float[Tensor, "n_latents"]:
    """For every direction the projection that `firing_share` of the rows exceed, at least one of them."""
    n_rows = centred.shape[0]
    n_firing = min(max(1, round(firing_share * n_rows)), n_rows - 1)
    thresholds = [
        (centred @ block.T).topk(n_firing + 1, dim=0).values[-1] for block in torch.split(directions, _CHUNK_LATENTS)
    ]
    return torch.cat(thresholds)


def _mean_distance(rows: ChunkedRows, split: RowSplit, median: Float[Tensor, "d_model"]) -> float:
    """The mean distance of all training rows to their median, raw units."""
    total = 0.0
    for chunk in rows.chunks(split.train, _CHUNK_ROWS):
        total += float((chunk.to("cpu", torch.float64) - median).norm(dim=1).sum())
    return total / split.train.shape[0]
