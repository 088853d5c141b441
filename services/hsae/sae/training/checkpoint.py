"""A training between two steps: its state, and how it is stored and restored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Int
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.config import SaeConfig, Schedule
from hsae.sae.model import SparseAutoencoder

FORMAT = "hsae-sae-checkpoint/1"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after some step, ready for one safetensors file.

    Attributes:
        tensors: "sae.<name>" the SAE's own tensors; "adam.<name>.<moment>" Adam's for every parameter; "silent_steps"
            int64 [n_latents]; "losses" float64 [4] of the last step.
        metadata: "format", "step" (steps done), "rate_halvings" (absent: 0), "config" (JSON), "n_train_rows",
            "batch_size", "n_steps".
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


@dataclass(slots=True)
class TrainingState:
    """All that changes from step to step.

    Attributes:
        sae: the SAE, on its device.
        optimiser: Adam with its moments.
        silent_steps: int64 [n_latents], steps since the latent last fired.
        step: steps done.
        losses: total, reconstruction, sparsity and auxiliary loss of the last step.
        rate_halvings: how often the learning rate was halved because a number was no longer finite.
    """

    sae: SparseAutoencoder
    optimiser: torch.optim.Adam
    silent_steps: Int[Tensor, "n_latents"]
    step: int = 0
    losses: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    rate_halvings: int = 0

    @classmethod
    def begin(cls, sae: SparseAutoencoder) -> Self:
        """The state before the first step of an SAE that is on its device already."""
        # Gao et al. 2024, appendix A.3: a small epsilon, for gradients are means over batches in which most latents
        # are silent. The learning rate is set at every step.
        optimiser = torch.optim.Adam(sae.parameters(), lr=0.0, eps=6.25e-10, fused=True)
        silent_steps = torch.zeros(sae.n_latents, dtype=torch.int64, device=sae.pre_bias.device)
        return cls(sae, optimiser, silent_steps)


def capture(state: TrainingState, config: SaeConfig, n_train_rows: int, schedule: Schedule) -> Checkpoint:
    """A copy of the state on the CPU."""
    tensors = {f"sae.{name}": tensor for name, tensor in state.sae.to_tensors().items()}
    for name, parameter in state.sae.named_parameters():
        for moment in _MOMENTS:
            tensors[f"adam.{name}.{moment}"] = state.optimiser.state[parameter][moment].detach().cpu().clone()
    tensors["silent_steps"] = state.silent_steps.cpu().clone()
    tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    progress = {"step": str(state.step), "rate_halvings": str(state.rate_halvings)}
    return Checkpoint(tensors, {**_identity(config, n_train_rows, schedule), **progress})


def restore(
    checkpoint: Checkpoint,
    config: SaeConfig,
    d_model: int,
    n_train_rows: int,
    schedule: Schedule,
    device: torch.device,
) -> TrainingState:
    """The state that was captured, on a device.

    Args:
        checkpoint: from `capture`.
        config: config of this training.
        d_model: width of this training's rows.
        n_train_rows: number of this training's rows.
        schedule: schedule of this training.
        device: where the training continues.

    Raises:
        UserError: the checkpoint is of another training, or incomplete.
    """
    for name, expected in _identity(config, n_train_rows, schedule).items():
        found = checkpoint.metadata.get(name)
        if found != expected:
            raise UserError(
                f"the checkpoint is of another training ({name} is {found}, not {expected}): "
                "delete it to train from the start"
            )
    tensors = checkpoint.tensors
    sae_tensors = {name.removeprefix("sae."): t for name, t in tensors.items() if name.startswith("sae.")}
    sae = SparseAutoencoder.from_tensors(sae_tensors, config)
    if sae.d_model != d_model:
        raise UserError(
            f"the checkpoint is of another training (d_model {sae.d_model}, not {d_model}): "
            "delete it to train from the start"
        )
    state = TrainingState.begin(sae.to(device))
    try:
        state.step = int(checkpoint.metadata["step"])
        state.rate_halvings = int(checkpoint.metadata.get("rate_halvings", "0"))
        state.losses = tuple(tensors["losses"].tolist())
        state.silent_steps.copy_(tensors["silent_steps"])
        for name, parameter in sae.named_parameters():
            moments = {m: tensors[f"adam.{name}.{m}"].to(device, copy=True) for m in _MOMENTS}
            if moments["exp_avg"].shape != parameter.shape or moments["exp_avg_sq"].shape != parameter.shape:
                raise UserError(f"Adam's moments of {name} have another shape in the checkpoint: delete it")
            state.optimiser.state[parameter] = moments
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"the checkpoint is incomplete ({error}): delete it to train from the start") from error
    if not 0 < state.step <= schedule.n_steps or len(state.losses) != 4:
        raise UserError(f"the checkpoint claims step {state.step} of {schedule.n_steps}: delete it")
    return state


def _identity(config: SaeConfig, n_train_rows: int, schedule: Schedule) -> dict[str, str]:
    """What must agree between the training that wrote a checkpoint and the one that continues from it."""
    return {
        "format": FORMAT,
        "config": config.model_dump_json(),
        "n_train_rows": str(n_train_rows),
        "batch_size": str(schedule.batch_size),
        "n_steps": str(schedule.n_steps),
    }
