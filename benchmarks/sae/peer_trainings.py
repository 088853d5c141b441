"""The trainings of other packages, each by its own trainer where it can be driven batch by batch.

Every one gets hsae's batches, learning rate 1e-3 with hsae's warm-up and decay (sparsify: its own optimiser and rate),
and rows of the length that the package asks for. Its other settings are its defaults, but that they aim at the same L0
where they can aim at one.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from benchmarks.sae.contender import Batches, Contender, Fit, Measure, Setting, measured
from jaxtyping import Float
from torch import Tensor

LEARNING_RATE = 1e-3
PACKAGES = {"eai-sparsify": "sparsify", "dictionary-learning": "dictionary_learning", "sae-lens": "sae_lens"}
"""Distributions and the modules that they bring."""
_NOT_HERE = "overcomplete: it imports torchvision, which has no wheel on PyPI for the CPU build of torch"
_Further = Callable[[Setting], dict[str, Any]]
_Run = Callable[[Setting, Callable[[], None]], Measure]
_SHARES = [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2]


def peer_contenders() -> tuple[list[Contender], list[str], dict[str, str]]:
    """What is installed, one line for each package that is not, and the versions of those that are."""
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # otherwise sparsify calls Triton for tensors of the CPU, too
    makers: dict[str, Callable[[], Iterator[Contender]]] = {
        "eai-sparsify": _of_sparsify,
        "dictionary-learning": _of_dictionary_learning,
        "sae-lens": _of_sae_lens,
    }
    found: list[Contender] = []
    missing, versions = [_NOT_HERE], {}
    for package, module in PACKAGES.items():
        try:
            versions[package] = version(package)
            importlib.import_module(module)
        except PackageNotFoundError:
            missing.append(f"{package}: it is not installed (make bench-sae installs it)")
        except Exception as error:  # noqa: BLE001 -- whatever another package raises at import
            missing.append(f"{package}: it cannot be imported here ({type(error).__name__}: {error})".splitlines()[0])
        else:
            found += makers[package]()
    return found, missing, versions


def _warmup(setting: Setting) -> int:
    return max(1, round(0.05 * setting.n_steps))


def _of_sparsify() -> Iterator[Contender]:
    def run(setting: Setting, after_step: Callable[[], None]) -> Measure:
        return measured(_Sparsify(setting), setting, after_step)

    yield Contender(f"sparsify {version('eai-sparsify')}", "topk", run)


class _Sparsify:
    """The steps of `sparsify.trainer.Trainer.fit` for one SAE; the trainer itself wants a language model."""

    def __init__(self, setting: Setting) -> None:
        from schedulefree import ScheduleFreeWrapper
        from sparsify.config import SparseCoderConfig
        from sparsify.sign_sgd import SignSGD
        from sparsify.sparse_coder import SparseCoder

        torch.manual_seed(setting.seed)
        self._batches = Batches(setting)
        self._sae = SparseCoder(setting.d_model, SparseCoderConfig(num_latents=setting.n_latents, k=setting.k))
        self._sae.b_dec.data = setting.rows[: setting.batch_size].mean(dim=0)
        rate = 5e-3 / (setting.n_latents / 2**14) ** 0.5
        self._optimiser: Any = ScheduleFreeWrapper(SignSGD(self._sae.parameters(), lr=rate), momentum=0.95)
        self._optimiser.train()
        self._since_fired = torch.zeros(setting.n_latents, dtype=torch.long)

    def step(self) -> None:
        x = self._batches.next()
        self._sae.set_decoder_norm_to_unit_norm()
        variance = (x - x.mean(dim=0)).pow(2).sum()
        out = self._sae(x=x, y=x, dead_mask=None, total_variance=variance)
        out.fvu.backward()
        self._sae.remove_gradient_parallel_to_decoder_directions()
        self._optimiser.step()
        self._optimiser.zero_grad()
        with torch.no_grad():
            self._since_fired += x.shape[0]
            self._since_fired[out.latent_indices.flatten()] = 0

    def fit(self, x: Float[Tensor, "n d_model"]) -> Fit:
        self._optimiser.eval()
        with torch.no_grad():
            out = self._sae(x)
            latents = torch.zeros(x.shape[0], self._sae.num_latents)
            latents.scatter_(1, out.latent_indices, out.latent_acts)
        return Fit(out.sae_out, latents)


def _of_dictionary_learning() -> Iterator[Contender]:
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    def runs(trainer: Any, further: _Further) -> _Run:
        return lambda setting, after: measured(_DictionaryLearning(trainer, further(setting), setting), setting, after)

    def by_count(setting: Setting) -> dict[str, Any]:
        return {"k": setting.k, "threshold_start_step": _warmup(setting)}

    def by_penalty(setting: Setting) -> dict[str, Any]:
        return {"sparsity_warmup_steps": _warmup(setting)}

    name = f"dictionary_learning {version('dictionary-learning')}"
    kinds: dict[str, tuple[Any, _Further]] = {
        "topk": (TopKTrainer, by_count),
        "batch_topk": (BatchTopKTrainer, by_count),
        "matryoshka": (MatryoshkaBatchTopKTrainer, lambda s: by_count(s) | {"group_fractions": _SHARES}),
        "relu": (StandardTrainer, by_penalty),
        "jumprelu": (JumpReluTrainer, lambda s: by_penalty(s) | {"target_l0": float(s.k)}),
        "gated": (GatedSAETrainer, by_penalty),
    }
    for kind, (trainer, further) in kinds.items():
        yield Contender(name, kind, runs(trainer, further))


class _DictionaryLearning:
    """Rows have a mean squared length of 1, as its `trainSAE(normalize_activations=True)` makes them."""

    def __init__(self, trainer: Any, further: dict[str, Any], setting: Setting) -> None:
        torch.manual_seed(setting.seed)
        self._scale = float(1 / setting.rows.square().sum(dim=1).mean().sqrt())
        self._batches = Batches(setting, self._scale)
        self._trainer = trainer(
            steps=setting.n_steps,
            activation_dim=setting.d_model,
            dict_size=setting.n_latents,
            layer=0,
            lm_name="none",
            lr=LEARNING_RATE,
            warmup_steps=_warmup(setting),
            decay_start=max(_warmup(setting) + 1, round(0.8 * setting.n_steps)),
            seed=setting.seed,
            device="cpu",
            **further,
        )

    def step(self) -> None:
        batch = self._batches.next()
        self._trainer.update(self._batches.step, batch)

    def fit(self, x: Float[Tensor, "n d_model"]) -> Fit:
        with torch.no_grad():
            latents = self._trainer.ae.encode(x * self._scale)
            return Fit(self._trainer.ae.decode(latents) / self._scale, latents)


def _of_sae_lens() -> Iterator[Contender]:
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.gated_sae import GatedTrainingSAE, GatedTrainingSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
    from sae_lens.saes.matryoshka_batchtopk_sae import (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
    )
    from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    def runs(sae: Any, config: Any, further: _Further) -> _Run:
        return lambda setting, after: measured(_SaeLens(sae, config, further(setting), setting), setting, after)

    def widths(setting: Setting) -> list[int]:
        return [round(sum(_SHARES[: n + 1]) * setting.n_latents) for n in range(len(_SHARES))]

    name = f"SAELens {version('sae-lens')}"
    kinds: dict[str, tuple[Any, Any, _Further]] = {
        "topk": (TopKTrainingSAE, TopKTrainingSAEConfig, lambda s: {"k": s.k}),
        "batch_topk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, lambda s: {"k": s.k}),
        "matryoshka": (
            MatryoshkaBatchTopKTrainingSAE,
            MatryoshkaBatchTopKTrainingSAEConfig,
            lambda s: {"k": s.k, "matryoshka_widths": widths(s)},
        ),
        "relu": (StandardTrainingSAE, StandardTrainingSAEConfig, lambda s: {"l1_warm_up_steps": _warmup(s)}),
        "jumprelu": (JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, lambda s: {"l0_warm_up_steps": _warmup(s)}),
        "gated": (GatedTrainingSAE, GatedTrainingSAEConfig, lambda s: {"l1_warm_up_steps": _warmup(s)}),
    }
    for kind, (sae, config, further) in kinds.items():
        yield Contender(name, kind, runs(sae, config, further))


class _SaeLens:
    """Its `SAETrainer`, step by step. Rows have the length sqrt(d_model), which it calls "expected_average_only_in"."""

    def __init__(self, sae: Any, config: Any, further: dict[str, Any], setting: Setting) -> None:
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        torch.manual_seed(setting.seed)
        self._scale = float(setting.d_model**0.5 / setting.rows.norm(dim=1).mean())
        self._batches = Batches(setting, self._scale)
        self._sae = sae(config(d_in=setting.d_model, d_sae=setting.n_latents, **further))
        trainer_config = SAETrainerConfig(
            total_training_samples=setting.n_steps * setting.batch_size,
            train_batch_size_samples=setting.batch_size,
            lr=LEARNING_RATE,
            lr_end=LEARNING_RATE / 10,
            lr_warm_up_steps=_warmup(setting),
            lr_decay_steps=round(0.2 * setting.n_steps),
        )
        self._trainer = SAETrainer(trainer_config, self._sae, iter(()))

    def step(self) -> None:
        self._trainer.step(self._batches.next())
        self._trainer.n_training_steps += 1

    def fit(self, x: Float[Tensor, "n d_model"]) -> Fit:
        self._sae.eval()
        with torch.no_grad():
            latents = self._sae.encode(x * self._scale)
            return Fit(self._sae.decode(latents) / self._scale, latents)
