"""Which kinds other packages' SAEs can be here, and the tensors that only some kinds have."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.variants import VARIANTS

_LEAST_THRESHOLD = torch.finfo(torch.float32).tiny
Tensors = Mapping[str, Tensor]


class ExchangedKind(NamedTuple):
    """A kind that is read and written.

    Attributes:
        competes: whether one number cuts off the latents of all directions, so that their lengths must be equal.
        to_own: from per-latent tensors [n_latents] in the package's units, what latents are multiplied by, and what a
            bias that is not subtracted from the input adds to pre-activations before, to the kind's own tensors.
        from_own: from the kind's own tensors, and what latents are divided by, to per-latent tensors.
    """

    competes: bool = False
    to_own: Callable[[Tensors, Tensor, Tensor], dict[str, Tensor]] = lambda per_latent, scale, added: {}
    from_own: Callable[[Tensors, Tensor, int], dict[str, Tensor]] = lambda own, scale, n_latents: {}


def _log_threshold(per_latent: Tensors, scale: Tensor, added: Tensor) -> dict[str, Tensor]:
    """A threshold of 0 or below, where the package has a ReLU before, is the least positive number."""
    threshold = per_latent["threshold"].double() * scale
    return {"tenth_log_threshold": threshold.clamp_min(_LEAST_THRESHOLD).log() / 10}


def _one_threshold(per_latent: Tensors, scale: Tensor, added: Tensor) -> dict[str, Tensor]:
    """The package's threshold is the same of all latents, and so is the length of their directions."""
    return {"threshold": (per_latent["threshold"].double() * scale)[0]}


def _magnitudes(per_latent: Tensors, scale: Tensor, added: Tensor) -> dict[str, Tensor]:
    """The magnitude's path has the weights of the gate's times exp(r_mag), and so has what is added to it."""
    factor = per_latent["r_mag"].double()
    return {
        "log_magnitude_scale": factor,
        "magnitude_bias": (per_latent["b_mag"].double() + factor.exp() * added) * scale,
    }


_TOPK = ExchangedKind(competes=True)
_BATCH_TOPK = ExchangedKind(
    competes=True,
    to_own=_one_threshold,
    from_own=lambda own, scale, n_latents: {"threshold": (own["threshold"].double() / scale).expand(n_latents)},
)
KINDS: dict[str, ExchangedKind] = {
    "relu": ExchangedKind(),
    "topk": _TOPK,
    "frozen": _TOPK,
    "soft_frozen": _TOPK,
    "matryoshka_topk": _TOPK,
    "jumprelu": ExchangedKind(
        to_own=_log_threshold,
        from_own=lambda own, scale, n_latents: {"threshold": (10 * own["tenth_log_threshold"].double()).exp() / scale},
    ),
    "gated": ExchangedKind(
        to_own=_magnitudes,
        from_own=lambda own, scale, n_latents: {
            "r_mag": own["log_magnitude_scale"],
            "b_mag": own["magnitude_bias"].double() / scale,
        },
    ),
    "batch_topk": _BATCH_TOPK,
    "matryoshka": _BATCH_TOPK,
}
"""The kinds that are read or written, by name."""
_ROW_TOPK = {"topk", "frozen", "soft_frozen"}
# Only its training differs: with its directions as they are, it encodes and decodes like the other kind.
_WRITTEN_AS = {"archetypal": "topk"}


def require_kind(kind: str) -> ExchangedKind:
    """The kind as which an SAE is imported.

    Raises:
        UserError: this version has no such kind.
    """
    if kind not in VARIANTS or kind not in KINDS:
        possible = ", ".join(known for known in VARIANTS if known in KINDS)
        raise UserError(f"this version has no kind {kind} to import an SAE as: it imports {possible}")
    return KINDS[kind]


def written_kind(kind: str) -> str:
    """The kind as which an SAE is written for other packages.

    Raises:
        UserError: none of them encodes as this kind does.
    """
    written = _WRITTEN_AS.get(kind, kind)
    if written not in KINDS:
        raise UserError(f"no other package here encodes like a {kind} SAE: write it in our own format (--format hsae)")
    return written


def row_k(kind: str, settings: Mapping[str, Any]) -> int | None:
    """How many latents of a row fire at most, of a kind that keeps the k largest of each; None of others."""
    if kind in _ROW_TOPK:
        return int(settings["k"])
    return max(map(int, settings["ks"].split(","))) if kind == "matryoshka_topk" else None
