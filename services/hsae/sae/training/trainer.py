"""The training loop: one SAE on the activation rows of one layer.

Everything that happens at a step is a function of the state before it and the step's number, so a training that goes
on from a checkpoint ends with the same bits as one that was never interrupted (same machine type, same thread count).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hsae.devices.numerics import narrow_products, products, same_bits
from hsae.devices.uploads import uploaded
from hsae.sae.config import SaeConfig, check_config, resolve_k_aux
from hsae.sae.evaluation.curve import CurveMeasure, CurvePoint
from hsae.sae.evaluation.metrics import SaeMetrics, mean_l0
from hsae.sae.kernels.encoder_product import product_memory
from hsae.sae.losses import TrainingStep
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.rows.training_data import Batches, TrainingData, on_device_if_it_fits, open_training_data
from hsae.sae.schedule import Schedule, learning_rate, resolve_dead_after_steps, resolve_schedule
from hsae.sae.training.checkpoint import Checkpoint, TrainingState, capture, restore
from hsae.sae.training.initialisation import initialise
from hsae.sae.training.last_good import LastGood, NonFiniteError
from hsae.sae.training.measured import measure_trained
from hsae.sae.training.resampling import N_ROWS, drawn_rows, is_due, resample
from hsae.sae.variants.variant import StepDone

GRADIENT_NORM_LIMIT = 1.0
_SURELY_BELOW_LIMIT = GRADIENT_NORM_LIMIT * (1 - 1e-5)
_WAIT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class StepReport:
    """The state of a training after a step; the losses are those of its batch (see `losses`).

    A training that went back to an earlier step reports the steps from there once more, with another `rate_halvings`.
    `measure` measures the SAE as it is then; None at most steps, see `hsae.sae.evaluation.curve`.
    """

    step: int
    n_steps: int
    batch_size: int
    loss: float
    reconstruction_loss: float
    sparsity_loss: float
    auxiliary_loss: float
    rate_halvings: int = 0
    measure: Callable[[], CurvePoint] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TrainedSae:
    """The SAE, on the CPU, and its metrics."""

    sae: SparseAutoencoder
    metrics: SaeMetrics


class CheckpointSaving(NamedTuple):
    """When a training saves its state, and how.

    Attributes:
        due: asked after every step but the last, while there is a state that was not saved.
        save: called with the last state that was kept (see `hsae.sae.training.last_good`) when `due` says yes.
        waiting: called while a step waits for its rows; an error that it raises ends the training.
    """

    due: Callable[[], bool]
    save: Callable[[Checkpoint], None]
    waiting: Callable[[], None] = lambda: None


@product_memory()
def train(
    config: SaeConfig,
    rows: TrainingRows | StreamedRows,
    *,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    saving: CheckpointSaving | None = None,
    spare_memory: bool = False,
) -> TrainedSae:
    """Train an SAE, from a checkpoint where one is given, and measure it.

    Args:
        config: how the SAE is trained.
        rows: activations of one layer; those of a config with `rows: stream` are streamed.
        device: where it trains; the result is on the CPU.
        checkpoint: the state to continue from; None: from the start.
        on_step: called after every step; an error that it raises ends the training.
        saving: when the state is saved, and how; None: never.
        spare_memory: hold as little as possible on the device; slower, with the same bits.

    A batch goes through the device in parts of `config.part_rows`. The gradients of the parts are added up; kinds that
    choose latents by the whole batch do so (`SaeVariant.prepare_batch`). The auxiliary loss is taken per part, so the
    bits differ from those of a whole batch.

    Raises:
        UserError: the config does not fit the rows; the rows hold NaN or infinity, are too few or all equal; the
            checkpoint is of another training; loss or gradient are not finite, also after two returns to an earlier
            step with half the learning rate.
    """
    with products(config.precision), same_bits(device):
        return _train(config, rows, device, checkpoint, on_step, saving, spare_memory)


def _train(
    config: SaeConfig,
    rows: TrainingRows | StreamedRows,
    device: torch.device,
    checkpoint: Checkpoint | None,
    on_step: Callable[[StepReport], None],
    saving: CheckpointSaving | None,
    spare_memory: bool,
) -> TrainedSae:
    data = open_training_data(config, rows, lambda held: held if spare_memory else on_device_if_it_fits(held, device))
    check_config(config, rows.d_model)
    n_train_rows = data.n_train_rows
    schedule = resolve_schedule(config, n_train_rows)
    last_good = LastGood(
        schedule.n_steps,
        config.learning_rate,
        begin=lambda: TrainingState.begin(initialise(config, data.rows, data.split).to(device)),
        capture=lambda state: capture(state, config, n_train_rows, schedule),
        restore=lambda kept: restore(kept, config, rows.d_model, n_train_rows, schedule, device),
    )
    state, saved = last_good.start(checkpoint), last_good.kept

    def save_if_due() -> bool:
        nonlocal saved
        kept = last_good.kept
        if saving is None or kept is None or kept is saved or not saving.due():
            return False
        saving.save(kept)
        saved = kept
        return True

    with data.batches(state.step, schedule) as batches:
        trainer = _Trainer(config, data, batches, schedule, state, device)
        while state.step < schedule.n_steps:
            while not batches.ready(state.step, _WAIT_SECONDS):
                if not save_if_due() and saving is not None:
                    saving.waiting()
            try:
                trainer.take_step()
                last_good.keep_if_due(state)
            except NonFiniteError as error:
                state = last_good.go_back(state, error)
                trainer.go_on_from(state)
                continue
            finally:
                batches.done()
            on_step(trainer.report())
            if state.step < schedule.n_steps:
                save_if_due()
    metrics = measure_trained(state, data, schedule, device)  # moves the SAE to the device
    return TrainedSae(state.sae.cpu(), metrics)


class _Trainer:
    """One step of the optimisation, and what it needs that does not change."""

    def __init__(
        self,
        config: SaeConfig,
        data: TrainingData,
        batches: Batches,
        schedule: Schedule,
        state: TrainingState,
        device: torch.device,
    ) -> None:
        self.part_rows = min(config.part_rows or schedule.batch_size, schedule.batch_size)
        self.config = config
        self.batches = batches
        self.schedule = schedule
        self.state = state
        self.device = device
        self.aux_coefficient = config.aux_coefficient if config.dead_latents == "auxk" else 0.0
        self.k_aux = resolve_k_aux(config, state.sae.d_model)
        self.dead_after_steps = resolve_dead_after_steps(config, data.n_train_rows)
        self.data = data
        self.curve = CurveMeasure(data.rows, data.split, schedule, config.seed, device)
        self.n_dead = 0
        self.go_on_from(state)

    def go_on_from(self, state: TrainingState) -> None:
        """Take the next step from a state that no step of this trainer has made."""
        self.state = state
        self.n_dead = int((state.silent_steps >= self.dead_after_steps).sum())

    def report(self) -> StepReport:
        """What the last step did."""
        state, (batch_size, n_steps) = self.state, self.schedule
        measure = self._measure if self.curve.is_due(state.step) else None
        loss, reconstruction_loss, sparsity_loss, auxiliary_loss = state.losses
        return StepReport(
            step=state.step,
            n_steps=n_steps,
            batch_size=batch_size,
            loss=loss,
            reconstruction_loss=reconstruction_loss,
            sparsity_loss=sparsity_loss,
            auxiliary_loss=auxiliary_loss,
            rate_halvings=state.rate_halvings,
            measure=measure,
        )

    def _measure(self) -> CurvePoint:
        state = self.state
        rate = self._rate(state.step - 1)
        return self.curve.measure(state.sae, dead_share=self.n_dead / state.sae.n_latents, learning_rate=rate)

    def _rate(self, step: int) -> float:
        """The learning rate of a step (counted from 0)."""
        return learning_rate(self.config, step, self.schedule.n_steps) / 2.0**self.state.rate_halvings

    def take_step(self) -> None:
        """Move the state by one step.

        Raises:
            NonFiniteError: the loss or the gradient is not finite; the weights are as before the step.
        """
        state, step, n_steps = self.state, self.state.step, self.schedule.n_steps
        sae, optimiser, variant = state.sae, state.optimiser, self.config.variant
        rate = self._rate(step)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        dead = state.silent_steps >= self.dead_after_steps
        at = TrainingStep(step, n_steps, self.aux_coefficient, self.k_aux, dead, self.n_dead)
        fired = torch.zeros_like(dead)
        terms = torch.zeros(4, device=self.device)
        notes = []
        batch = self.batches.batch(step)
        for x_scaled, prepared in self._parts(batch):
            with self._autocast():
                losses = variant.losses(sae, x_scaled, replace(at, prepared=prepared))
            share = x_scaled.shape[0] / batch.shape[0]
            of_part = [losses.total.detach(), losses.reconstruction, losses.sparsity, losses.auxiliary]
            terms += share * torch.stack(of_part)
            fired |= losses.fired
            notes += [] if losses.note is None else [losses.note]
            torch.autograd.backward(share * losses.total)
        with torch.no_grad():
            variant.before_step(sae)
            parameters = list(sae.parameters())
            norm = torch.nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
            silent_steps = (state.silent_steps + 1).masked_fill_(fired, 0)
            n_dead = (silent_steps >= self.dead_after_steps).sum()
            # All that the host must know, in one piece: every number that it asks for makes it wait for the device.
            *values, length, n_dead_value = torch.cat([terms, torch.stack([norm, n_dead])]).tolist()
            if not math.isfinite(values[0]):
                raise NonFiniteError(f"the loss became {values[0]} at step {step + 1}")
            if not math.isfinite(length):
                raise NonFiniteError(f"the gradient's norm became {length} at step {step + 1}")
            # A gradient below the limit is not multiplied by 1, which would go through all of it.
            if length > _SURELY_BELOW_LIMIT:
                torch.nn.utils.clip_grads_with_norm_(parameters, GRADIENT_NORM_LIMIT, norm)
            optimiser.step()
            share = rate / self.config.learning_rate
            variant.after_step(sae, StepDone(step, n_steps, share, lambda: mean_l0(sae, self.curve.watched), notes))
        state.silent_steps, self.n_dead = silent_steps, int(n_dead_value)
        state.losses = tuple(values)
        state.step = step + 1
        if self.config.dead_latents == "resample" and is_due(state.step, n_steps):
            resample(state, self.config.seed, self.dead_after_steps, self._rows_for_directions)
            self.go_on_from(state)

    def _rows_for_directions(self) -> Float[Tensor, "n d_model"]:
        """Raw activations from which dead latents may take their directions at this step."""
        train = self.data.split.train
        chosen = train[drawn_rows(train.shape[0], self.config.seed, self.state.step)]
        return next(self.data.rows.chunks(chosen, N_ROWS)).to(self.device)

    def _parts(self, batch: Float[Tensor, "n d_model"]) -> Iterator[tuple[Float[Tensor, "part d_model"], Any]]:
        """The rows of each micro-batch in scaled space, and what the kind says of it in view of the whole batch."""
        sae = self.state.sae
        # Not waited for: what the host does next depends on no number of the rows.
        parts = [
            sae.scale_inputs(uploaded(part, self.device).to(torch.float32))
            for part in torch.split(batch, self.part_rows)
        ]
        if len(parts) == 1:
            return iter([(parts[0], None)])
        with torch.no_grad(), self._autocast():
            return zip(parts, self.config.variant.prepare_batch(sae, parts), strict=True)

    def _autocast(self) -> torch.autocast:
        """Matrix products in bfloat16 where the config asks for that."""
        return narrow_products(self.device, self.config.precision)
