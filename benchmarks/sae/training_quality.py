"""What the trained SAEs are worth: the same number of vectors of real activations, and rows that none of them saw."""

import time
from collections.abc import Iterator, Sequence

import torch
from benchmarks.findings.real_layers import RealLayers, known_data
from benchmarks.measure import Row
from benchmarks.sae.contender import Contender, Fit, Setting
from benchmarks.sae.own_trainings import OURS
from jaxtyping import Float
from torch import Tensor

_BLOCK = 5
_K = 16
_BATCH = 256
_HELD_OUT = 5
"""Every fifth image is held out."""


def quality_rows(contenders: Sequence[Contender], n_steps: int) -> tuple[list[Row], list[str]]:
    """Held-out FVU, L0 and dead share of each; and what failed."""
    (demo,) = known_data(None)
    layers = RealLayers.of(demo, (_BLOCK,))
    held_out = layers.image % _HELD_OUT == 0
    activations = layers.activations[_BLOCK]
    train, unseen = activations[~held_out], activations[held_out & (layers.view == 0)]
    setting = Setting(train, 8 * train.shape[1], _BATCH, n_steps, k=_K)
    rows: list[Row] = []
    failed: list[str] = []
    for contender in contenders:
        try:
            rows += _measured(contender, setting, unseen)
        except Exception as error:
            if contender.name == OURS:
                raise
            failed.append(f"{contender.title}: {type(error).__name__}: {error}".splitlines()[0])
    return rows, failed


def _measured(contender: Contender, setting: Setting, unseen: Tensor) -> Iterator[Row]:
    start, title = time.perf_counter(), contender.title
    measure = contender.run(setting, lambda: None)
    assert measure is not None
    fit = measure(unseen)
    fvu, l0, dead = figures(fit, unseen)
    print(f"  {title}: FVU {fvu:.4f}, L0 {l0:.1f}, dead {dead:.3f}, {time.perf_counter() - start:.1f} s", flush=True)
    yield Row(f"{title}: held-out FVU", fvu, "")
    yield Row(f"{title}: held-out L0", l0, "")
    yield Row(f"{title}: held-out dead share", dead, "")


def figures(fit: Fit, x: Float[Tensor, "n d_model"]) -> tuple[float, float, float]:
    """FVU, L0 and the share of the latents that fire on no row."""
    exact = x.double()
    residual = (exact - fit.reconstruction.double()).square().sum()
    fvu = float(residual / (exact - exact.mean(dim=0)).square().sum())
    fires = fit.latents > 0
    return fvu, float(fires.sum(dim=1).double().mean()), 1 - float(torch.any(fires, dim=0).double().mean())
