"""What is measured of an SAE when its training has ended."""

import torch

from hsae.sae.evaluation.evaluation import evaluate
from hsae.sae.evaluation.metrics import SaeMetrics, dead_share, measure_reconstruction
from hsae.sae.rows.training_data import TrainingData
from hsae.sae.schedule import Schedule
from hsae.sae.training.checkpoint import TrainingState


def measure_trained(state: TrainingState, data: TrainingData, schedule: Schedule, device: torch.device) -> SaeMetrics:
    """Measure the SAE of the last step; it is then on `device`."""
    sae, rows, split = state.sae.to(device), data.rows, data.split
    train = measure_reconstruction(sae, rows, split.measured_train, device)
    holdout = measure_reconstruction(sae, rows, split.holdout, device) if split.holdout.shape[0] else None
    loss, reconstruction_loss, sparsity_loss, auxiliary_loss = state.losses
    return SaeMetrics(
        fvu=None if holdout is None else holdout.fvu,
        cosine=None if holdout is None else holdout.cosine,
        l0=None if holdout is None else holdout.l0,
        l1=None if holdout is None else holdout.l1,
        holdout_dead_share=None if holdout is None else holdout.dead_share,
        train_fvu=train.fvu,
        train_cosine=train.cosine,
        train_l0=train.l0,
        train_l1=train.l1,
        train_dead_share=train.dead_share,
        dead_share=dead_share(sae, rows, split, device),
        n_train_rows=data.n_train_rows,
        n_train_rows_measured=train.n_rows,
        n_holdout_rows=split.holdout.shape[0],
        batch_size=schedule.batch_size,
        n_steps=schedule.n_steps,
        loss=loss,
        reconstruction_loss=reconstruction_loss,
        sparsity_loss=sparsity_loss,
        auxiliary_loss=auxiliary_loss,
        rate_halvings=state.rate_halvings,
        of_kind=sae.config.variant.own_metrics(sae, train.l0 if holdout is None else holdout.l0),
        evaluation=evaluate(
            sae, rows, split, device, holdout=None if holdout is None else holdout.firing, train=train.firing
        ),
    )
