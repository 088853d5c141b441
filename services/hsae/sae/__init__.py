"""Sparse autoencoders: the variants (ReLU with L1, TopK), the trainer, and what is measured of the result."""

from hsae.sae.checkpoint import Checkpoint
from hsae.sae.config import (
    SaeConfig,
    SaeKind,
    Schedule,
    check_config,
    n_latents_of,
    resolve_dead_after_steps,
    resolve_schedule,
)
from hsae.sae.encoding import encode_sparse
from hsae.sae.initialisation import untrained_sae
from hsae.sae.metrics import SaeMetrics
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows import TrainingRows
from hsae.sae.trainer import StepReport, TrainedSae, train

__all__ = [
    "Checkpoint",
    "SaeConfig",
    "SaeKind",
    "SaeMetrics",
    "Schedule",
    "SparseAutoencoder",
    "StepReport",
    "TrainedSae",
    "TrainingRows",
    "check_config",
    "encode_sparse",
    "n_latents_of",
    "resolve_dead_after_steps",
    "resolve_schedule",
    "train",
    "untrained_sae",
]
