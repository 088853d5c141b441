"""Trainings of hsae, every kind that is registered, through the function that jobs call."""

from collections.abc import Callable, Collection, Iterator
from functools import partial

import torch
from benchmarks.sae.contender import Contender, Fit, Measure, Setting
from jaxtyping import Float
from torch import Tensor

from hsae.devices.bfloat16 import processor_has_bfloat16
from hsae.devices.precision import Precision
from hsae.sae.config import SaeConfig
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.trainer import train
from hsae.sae.variants import VARIANTS

OURS = "hsae"
NARROW = "hsae in bfloat16"
# At what the kinds aim: all fire as many latents.
_COUNTS = ("k", "target_l0")


def own_contenders(kinds: list[str] | None) -> Iterator[Contender]:
    """All kinds of the registry, or the named ones."""
    for kind in VARIANTS if kinds is None else kinds:
        if kind in VARIANTS:
            yield Contender(OURS, kind, partial(_run, kind))


def narrow_contenders(kinds: Collection[str]) -> Iterator[Contender]:
    """TopK with its encoder's product in bfloat16, where it is wanted and the processor has instructions for it."""
    if "topk" in kinds and processor_has_bfloat16():
        yield Contender(NARROW, "topk", partial(_run, "topk", precision="bfloat16"))


def config_of(kind: str, setting: Setting, precision: Precision = "float32") -> SaeConfig:
    """The defaults, but for the sizes, the number of latents that fire, and the precision of the products."""
    own = {name: setting.k for name in _COUNTS if name in VARIANTS[kind].settings()}
    return SaeConfig(
        kind=kind,
        expansion=setting.n_latents // setting.d_model,
        batch_size=setting.batch_size,
        n_steps=setting.n_steps,
        holdout_share=0.0,
        seed=setting.seed,
        precision=precision,
        **own,
    )


def _run(kind: str, setting: Setting, after_step: Callable[[], None], precision: Precision = "float32") -> Measure:
    rows = setting.rows
    images = torch.arange(rows.shape[0])
    trained = train(
        config_of(kind, setting, precision),
        TrainingRows(rows, images, torch.zeros_like(images)),
        device=torch.device("cpu"),
        on_step=lambda report: after_step(),
    )

    def measure(x: Float[Tensor, "n d_model"]) -> Fit:
        with torch.inference_mode():
            latents = trained.sae.encode(x)
            return Fit(trained.sae.decode(latents), latents)

    return measure
