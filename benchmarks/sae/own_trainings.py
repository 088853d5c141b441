"""Trainings of hsae, every kind that is registered, through the function that jobs call."""

import threading
from collections.abc import Iterator

import torch
from benchmarks.sae.contender import Contender, Fit, Setting
from jaxtyping import Float
from torch import Tensor

from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.trainer import StepReport, train
from hsae.sae.variants import VARIANTS

OURS = "hsae"
# At what the kinds aim: all fire as many latents.
_COUNTS = ("k", "target_l0")


def own_contenders(kinds: list[str] | None) -> Iterator[Contender]:
    """All kinds of the registry, or the named ones."""
    for kind in VARIANTS if kinds is None else kinds:
        if kind in VARIANTS:
            yield Contender(OURS, kind, lambda setting, kind=kind: _Own(config_of(kind, setting), setting))  # type: ignore[misc]


def config_of(kind: str, setting: Setting) -> SaeConfig:
    """The defaults, but for the sizes and the number of latents that fire."""
    own = {name: setting.k for name in _COUNTS if name in VARIANTS[kind].settings()}
    return SaeConfig(
        kind=kind,
        expansion=setting.n_latents // setting.d_model,
        batch_size=setting.batch_size,
        n_steps=setting.n_steps,
        holdout_share=0.0,
        seed=setting.seed,
        **own,
    )


class _ClosedError(Exception):
    """The benchmark has seen enough steps."""


class _Own:
    """`train` in a thread that waits after every step."""

    def __init__(self, config: SaeConfig, setting: Setting) -> None:
        self._config = config
        self._setting = setting
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._is_closed = False
        self._sae: SparseAutoencoder | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._done.acquire()

    def step(self) -> None:
        self._go.release()
        self._done.acquire()
        if self._failure is not None:
            raise self._failure

    def fit(self, x: Float[Tensor, "n d_model"]) -> Fit:
        self.close()
        if self._sae is None:
            raise RuntimeError("only a training that took all its steps can be measured")
        with torch.inference_mode():
            latents = self._sae.encode(x)
            return Fit(self._sae.decode(latents), latents)

    def close(self) -> None:
        self._is_closed = True
        self._go.release()
        self._thread.join()

    def _run(self) -> None:
        rows = self._setting.rows
        images = torch.arange(rows.shape[0])
        try:
            self._wait()
            of_layer = TrainingRows(rows, images, torch.zeros_like(images))
            self._sae = train(self._config, of_layer, device=torch.device("cpu"), on_step=self._after_step).sae
        except _ClosedError:
            pass
        except BaseException as error:  # noqa: BLE001 -- it is raised again by `step`
            self._failure = error
        finally:
            self._done.release()

    def _after_step(self, report: StepReport) -> None:
        if report.step < report.n_steps:
            self._wait()
        else:
            self._done.release()

    def _wait(self) -> None:
        self._done.release()
        self._go.acquire()
        if self._is_closed:
            raise _ClosedError
