"""What a training does when a number is no longer finite: it goes back to a good state and halves the learning rate.

The good state is kept at steps that depend on nothing but the length of the training, and it is also what is stored as
a checkpoint. So a training that was interrupted goes back to the same state as one that was not.
"""

from collections.abc import Callable

import torch

from hsae.errors import UserError
from hsae.sae.training.checkpoint import Checkpoint, TrainingState

MAX_RETURNS = 2
_KEPT_STATES = 40
_MOST_STEPS_BETWEEN = 50


class NonFiniteError(Exception):
    """A loss, a gradient or a weight is NaN or infinite."""


def steps_between_kept_states(n_steps: int) -> int:
    """A state is kept after every so many steps: a fortieth of the training, but 50 at most."""
    return max(1, min(_MOST_STEPS_BETWEEN, n_steps // _KEPT_STATES))


class LastGood:
    """The last state that was kept, and the way back to it.

    Attributes:
        kept: the state; None before the first one is due.
    """

    def __init__(
        self,
        n_steps: int,
        learning_rate: float,
        *,
        begin: Callable[[], TrainingState],
        capture: Callable[[TrainingState], Checkpoint],
        restore: Callable[[Checkpoint], TrainingState],
    ) -> None:
        """Nothing is kept yet.

        Args:
            n_steps: steps of the whole training.
            learning_rate: the greatest learning rate of the config.
            begin: makes the state before the first step.
            capture: copies a state.
            restore: makes a state from such a copy.
        """
        self.kept: Checkpoint | None = None
        self._between = steps_between_kept_states(n_steps)
        self._n_steps = n_steps
        self._learning_rate = learning_rate
        self._begin = begin
        self._capture = capture
        self._restore = restore

    def start(self, checkpoint: Checkpoint | None) -> TrainingState:
        """The state of a checkpoint, which is kept, or the one before the first step.

        Raises:
            UserError: the checkpoint is of another training, or incomplete.
        """
        if checkpoint is None:
            return self._begin()
        state = self._restore(checkpoint)
        self.kept = checkpoint
        return state

    def keep_if_due(self, state: TrainingState) -> None:
        """Keep a copy of a state after a step for which one is due, and after the last one.

        Raises:
            NonFiniteError: a weight is not finite.
        """
        if state.step % self._between == 0 or state.step == self._n_steps:
            copy = self._capture(state)
            for name, tensor in copy.tensors.items():
                if not bool(torch.isfinite(tensor).all()):
                    raise NonFiniteError(f"{name.removeprefix('sae.')} holds NaN or infinity after step {state.step}")
            self.kept = copy

    def go_back(self, state: TrainingState, error: NonFiniteError) -> TrainingState:
        """The state to go on from, with half the learning rate of the one that met the error.

        Raises:
            UserError: the training went back twice before.
        """
        halvings = state.rate_halvings + 1
        if halvings > MAX_RETURNS:
            last_rate = self._learning_rate / 2**state.rate_halvings
            raise UserError(
                f"{error} of {self._n_steps}, also after {MAX_RETURNS} returns to an earlier step, each with half the "
                f"learning rate (learning_rate {self._learning_rate:g}, {last_rate:g} at last): choose a learning_rate "
                f"below {last_rate:g}"
            ) from error
        state = self._begin() if self.kept is None else self._restore(self.kept)
        state.rate_halvings = halvings
        if self.kept is not None:
            self.kept = self._capture(state)
        return state
