"""An SAE in the terms that other packages share, and how its conventions become ours without changing what it computes.

Its activations and its reconstruction are

    x_in  = input_scale * (x - input_mean)
    pre   = encoder @ (x_in - c * decoder_bias) + encoder_bias         c: 1 if `subtracts_decoder_bias`, else 0
    z     = what the kind makes of pre
    x_hat = (decoder.T @ z + decoder_bias) / input_scale + input_mean

and ours are those of `hsae.sae.model`, with directions of unit norm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.exchange.kinds import KINDS, require_kind, written_kind

_EXACT = 1e-6
_ROUNDING = 1e-3


@dataclass(frozen=True)
class ForeignSae:
    """An SAE as its package stores it.

    Attributes:
        kind: the kind that it is here.
        encoder: [n_latents, d_model].
        encoder_bias: [n_latents]; of a gated SAE, the gate's.
        decoder: [n_latents, d_model]; directions of any length.
        decoder_bias: [d_model].
        subtracts_decoder_bias: whether the encoder subtracts `decoder_bias` from its input.
        settings: the kind's settings that say how it encodes, such as k.
        per_latent: what further tensors [n_latents] the kind has, such as `threshold`.
        selects_by_contribution: whether latents compete by their value times the length of their direction.
        input_scale: what inputs are multiplied by.
        input_mean: [d_model], what is subtracted from inputs before; None: nothing.
        notes: what a user should know, a sentence each.
    """

    kind: str
    encoder: Float[Tensor, "n_latents d_model"]
    encoder_bias: Float[Tensor, "n_latents"]
    decoder: Float[Tensor, "n_latents d_model"]
    decoder_bias: Float[Tensor, "d_model"]
    subtracts_decoder_bias: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    per_latent: Mapping[str, Float[Tensor, "n_latents"]] = field(default_factory=dict)
    selects_by_contribution: bool = False
    input_scale: float = 1.0
    input_mean: Float[Tensor, "d_model"] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoldedSae:
    """Our tensors, and what was changed to get them.

    Attributes:
        kind: the kind.
        settings: its settings.
        tensors: float32 by name, as `SparseAutoencoder.to_tensors` returns them.
        notes: what was folded, and what differs from the package; a sentence each.
    """

    kind: str
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]


def fold(foreign: ForeignSae) -> FoldedSae:
    """Fold biases, scale and lengths of directions, in float64.

    A latent here is the package's one times the length of its direction, so that z is the length of what it adds.

    Raises:
        UserError: shapes do not fit, a number is not finite, this version lacks the kind, or latents of unequal
            directions compete, which no change of weights can express.
    """
    kind = require_kind(foreign.kind)
    _check(foreign)
    encoder, decoder = foreign.encoder.double(), foreign.decoder.double()
    decoder_bias = foreign.decoder_bias.double()
    notes = list(foreign.notes)
    scale, directions = _unit_directions(foreign, decoder, notes, competes=kind.competes)
    encoder_bias = foreign.encoder_bias.double()
    added = torch.zeros_like(encoder_bias)
    if not foreign.subtracts_decoder_bias and bool(decoder_bias.any()):
        added = encoder @ decoder_bias
        notes.append("the encoder does not subtract the decoder's bias: what it would add is in the encoder's bias")
    pre_bias = decoder_bias
    if foreign.input_mean is not None and bool(foreign.input_mean.any()):
        pre_bias = pre_bias + foreign.input_scale * foreign.input_mean.double()
        notes.append("the mean that is subtracted from inputs is in the pre-bias")
    tensors = {
        "encoder_weight": encoder if scale is None else encoder * scale[:, None],
        "encoder_bias": encoder_bias + added if scale is None else (encoder_bias + added) * scale,
        "decoder_weight": directions,
        "pre_bias": pre_bias,
        "input_scale": torch.tensor(foreign.input_scale, dtype=torch.float64),
    }
    # Lengths are positive: what is compared with a pre-activation, or added to it, is multiplied like it.
    own = kind.to_own(foreign.per_latent, torch.ones_like(added) if scale is None else scale, added)
    single = {name: tensor.to(torch.float32).contiguous() for name, tensor in {**tensors, **own}.items()}
    return FoldedSae(foreign.kind, foreign.settings, single, tuple(notes))


def _check(foreign: ForeignSae) -> None:
    n_latents, d_model = foreign.encoder.shape
    expected = {
        "encoder": (n_latents, d_model),
        "decoder": (n_latents, d_model),
        "encoder bias": (n_latents,),
        "decoder bias": (d_model,),
        **dict.fromkeys(foreign.per_latent, (n_latents,)),
    }
    found = {
        "encoder": foreign.encoder,
        "decoder": foreign.decoder,
        "encoder bias": foreign.encoder_bias,
        "decoder bias": foreign.decoder_bias,
        **foreign.per_latent,
    }
    for name, tensor in found.items():
        if tuple(tensor.shape) != expected[name]:
            raise UserError(
                f"the {name} has the shape {list(tensor.shape)}, and {n_latents} latents of {d_model} dimensions need"
                f" {list(expected[name])}: the file is of another SAE than its config, or of another format"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"the {name} holds NaN or infinity: this SAE cannot be used")
    if not (0 < foreign.input_scale < float("inf")):
        raise UserError(f"inputs are multiplied by {foreign.input_scale}: only a positive number can be folded")


def _unit_directions(
    foreign: ForeignSae, decoder: Float[Tensor, "n_latents d_model"], notes: list[str], *, competes: bool
) -> tuple[Float[Tensor, "n_latents"] | None, Float[Tensor, "n_latents d_model"]]:
    """By what latents are multiplied (None: 1), and directions of unit norm."""
    lengths = decoder.norm(dim=1)
    shortest, longest = float(lengths.min()), float(lengths.max())
    if abs(shortest - 1) <= _EXACT and abs(longest - 1) <= _EXACT:
        return None, decoder
    unit = torch.zeros_like(decoder)
    unit[:, 0] = 1  # of a latent that adds nothing: it is multiplied by 0
    unit = torch.where(lengths[:, None] > 0, decoder / lengths.clamp_min(1e-300)[:, None], unit)
    spread = f"{shortest:.4g} to {longest:.4g}"
    if not competes or foreign.selects_by_contribution:
        notes.append(
            f"directions had lengths of {spread}: latents are multiplied by them, and have unit directions here"
        )
        return lengths, unit
    middle = float(lengths.mean())
    if max(longest / middle - 1, 1 - shortest / middle) > _ROUNDING:
        raise UserError(
            f"{foreign.kind} latents compete before they are multiplied by directions of lengths {spread}, which no"
            " weights with unit directions can express: normalise the decoder in its package, and retrain or check it"
        )
    if abs(middle - 1) > _ROUNDING:
        notes.append(f"directions had the length {middle:.6g}: latents are multiplied by it")
    return torch.full_like(lengths, middle), unit


def unfold(kind: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ForeignSae:
    """Our SAE in the terms of other packages: no scale of inputs, directions of unit norm, `b_dec` subtracted.

    Latents are those of here divided by `input_scale`: in the units of the activations. An archetypal SAE becomes a
    TopK one: the mixtures that its directions were made from are left out.

    Args:
        kind: its kind.
        settings: its own settings.
        tensors: as `SparseAutoencoder.to_tensors` returns them.

    Raises:
        UserError: no package has such a kind.
    """
    scale = tensors["input_scale"].double()
    kind = written_kind(kind)
    per_latent = KINDS[kind].from_own(tensors, scale, len(tensors["encoder_bias"]))
    return ForeignSae(
        kind=kind,
        encoder=tensors["encoder_weight"],
        encoder_bias=(tensors["encoder_bias"].double() / scale).float(),
        decoder=tensors["decoder_weight"],
        decoder_bias=(tensors["pre_bias"].double() / scale).float(),
        subtracts_decoder_bias=True,
        settings=settings,
        per_latent={name: found.float() for name, found in per_latent.items()},
    )
