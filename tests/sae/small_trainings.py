"""Trainings of every kind that take a moment, and the comparison of what they made."""

import torch

from hsae.sae.config import SaeConfig
from hsae.sae.variants import VARIANTS

CPU = torch.device("cpu")
_SMALL = {"expansion": 4, "n_steps": 60, "batch_size": 32, "dead_after_steps": 2, "learning_rate": 1e-2}
KINDS = {
    "relu": SaeConfig(l1_coefficient=1.0, l1_warmup_share=0.5, **_SMALL),
    "relu with a target": SaeConfig(target_l0=3, **_SMALL),
    "topk": SaeConfig(kind="topk", k=2, **_SMALL),
    "frozen": SaeConfig(kind="frozen", k=2, **_SMALL),
    "soft_frozen": SaeConfig(kind="soft_frozen", k=2, min_cosine=0.95, **_SMALL),
    "gated": SaeConfig(kind="gated", l1_coefficient=1.0, l1_warmup_share=0.5, **_SMALL),
    "jumprelu": SaeConfig(kind="jumprelu", target_l0=2, **_SMALL),
    "jumprelu with tanh": SaeConfig(
        kind="jumprelu", penalty="tanh", l0_coefficient=0.05, l0_warmup_share=0.5, **_SMALL
    ),
    "archetypal": SaeConfig(kind="archetypal", k=2, n_points=20, **_SMALL),
    "batch_topk": SaeConfig(kind="batch_topk", k=2, **_SMALL),
    "matryoshka": SaeConfig(kind="matryoshka", k=2, groups="1/4,1/2,1", **_SMALL),
    "matryoshka_topk": SaeConfig(kind="matryoshka_topk", ks="1,2,4", weighting="reverse", **_SMALL),
    "matching_pursuit": SaeConfig(kind="matching_pursuit", k=2, **_SMALL),
}
# A kind that is not named above, with its own defaults; the dictionary is too small for that of k.
KINDS |= {
    kind: SaeConfig(kind=kind, **({"k": 2} if "k" in variant.settings() else {}), **_SMALL)
    for kind, variant in VARIANTS.items()
    if kind not in {config.kind for config in KINDS.values()}
}
N_STEPS = 40
# The L1 penalty rises until step 20, the learning rate falls from step 32 on.
SHORT = {kind: config.model_copy(update={"n_steps": N_STEPS, "seed": 5}) for kind, config in KINDS.items()}


def assert_same_tensors(found, expected):
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
