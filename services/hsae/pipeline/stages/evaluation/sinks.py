"""Where a training's curve also goes, if a setting says so: TensorBoard, Weights & Biases."""

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hsae.catalog import Json
from hsae.errors import UserError
from hsae.extras import install_extra
from hsae.settings import Settings

log = logging.getLogger(__name__)
_NOT_SENT = {"sae_key", "step", "job_id"}


class Tracker(Protocol):
    """What receives the points of one training."""

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """One point."""

    def close(self) -> None:
        """The training has ended, or this attempt at it."""


class CurveSink:
    """A tracker whose failure costs its points, and not the training."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name = name
        self._tracker: Tracker | None = tracker

    def add(self, point: Json) -> None:
        """Send a row of `sae_curve`; numbers that are null are left out."""
        values = {name: value for name, value in point.items() if name not in _NOT_SENT and value is not None}
        self._guarded(lambda tracker: tracker.send(point["step"], values))

    def close(self) -> None:
        """No further point comes."""
        self._guarded(lambda tracker: tracker.close())

    def _guarded(self, use: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            use(self._tracker)
        except Exception as error:  # noqa: BLE001 -- whatever it raises: the rows in the catalog are the truth
            self._tracker = None
            log.warning("%s gets no further points (%s: %s); they are in sae_curve", self._name, *_shown(error))


@contextmanager
def open_sinks(settings: Settings, key: str, title: str, config: Json, *, first_step: int) -> Iterator[list[CurveSink]]:
    """The sinks that the settings ask for, closed at the end.

    Args:
        settings: with `tensorboard_dir` and `wandb_project`.
        key: key of the SAE: attempts at one training are one run.
        title: the run's name for people.
        config: of the SAE.
        first_step: steps that the checkpoint has done; 0: from the start.

    Raises:
        UserError: a setting asks for a sink whose package is not installed, or which cannot be opened.
    """
    sinks = []
    if settings.tensorboard_dir is not None:
        _require("tensorboard", "HSAE_TENSORBOARD_DIR")
        folder = settings.tensorboard_dir.expanduser() / f"{_slug(title)}-{key[:12]}"
        sinks.append(_opened("TensorBoard", "HSAE_TENSORBOARD_DIR", lambda: _TensorBoard(folder, first_step)))
    if settings.wandb_project is not None:
        _require("wandb", "HSAE_WANDB_PROJECT")
        project = settings.wandb_project
        sinks.append(_opened("W&B", "HSAE_WANDB_PROJECT", lambda: _Wandb(project, key, title, config)))
    try:
        yield sinks
    finally:
        for sink in sinks:
            sink.close()


def _require(package: str, variable: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{variable} is set, but the package {package} is not installed: on the workers, {install_extra(package)};"
            f" or unset {variable}"
        )


def _opened(name: str, variable: str, begin: Callable[[], Tracker]) -> CurveSink:
    try:
        return CurveSink(name, begin())
    except Exception as error:  # whatever the package raises
        kind, reason = _shown(error)
        raise UserError(
            f"{name} cannot be opened ({kind}: {reason}): correct its settings or unset {variable}"
        ) from error


def _shown(error: Exception) -> tuple[str, str]:
    return type(error).__name__, " ".join(str(error).split())[:200]


def _slug(title: str) -> str:
    """A title as the name of a folder."""
    return "".join(letter if letter.isalnum() or letter in "=.,-" else "_" for letter in title)[:120]


class _TensorBoard:
    """Event files in a folder of the training's own."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here: an extra, which few have

        # Points that an attempt sent after its last checkpoint are measured again.
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Add one value to each of the curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class _Wandb:
    """A run of Weights & Biases, which further attempts at the training continue; WANDB_* variables are W&B's own."""

    def __init__(self, project: str, key: str, title: str, config: Json) -> None:
        import wandb  # here: an extra, which few have

        quiet = wandb.Settings(silent=True, console="off")
        self._run: Any = wandb.init(
            project=project,
            id=key[:32],
            name=title,
            config=config,
            resume="allow",
            reinit="create_new",  # several SAEs may train in one process
            settings=quiet,
        )

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Log one point."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Upload what is left."""
        self._run.finish()
