"""overcomplete: a state dict turned into safetensors, and a `config.json` of the settings that it lacks."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.exchange.foreign import ForeignSae
from hsae.sae.exchange.formats.format import SaeFormat, require_matrix, setting, tensor
from hsae.sae.exchange.hook_points import TrainedAt
from hsae.sae.exchange.source import Checkpoint

_KINDS = {"SAE": "relu", "TopKSAE": "topk", "JumpSAE": "jumprelu", "BatchTopKSAE": "batch_topk"}
_LENGTH_EPSILON = 1e-8
_DICTIONARY = "dictionary._weights"


class Overcomplete(SaeFormat):
    """SAEs of overcomplete, https://github.com/KempnerInstitute/overcomplete, with a linear encoder.

    The state dict knows neither class nor `top_k`, so `config.json` says them: {"class": "TopKSAE", "top_k": 32}.
    Further settings: `running_threshold` of a BatchTopKSAE, `normalization` of the dictionary where it is not l2.
    """

    name = "overcomplete"
    title = "overcomplete"

    def recognises(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """By the name of the dictionary, or of the class."""
        return _DICTIONARY in names or (not names and config.get("class") in _KINDS)

    def read(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> tuple[ForeignSae, TrainedAt]:
        """Every class whose kind there is; reconstructions have no bias."""
        config, place = checkpoint.config, checkpoint.place
        name = config.get("class")
        if name not in _KINDS:
            raise UserError(
                f"{place} does not say what it is: write a config.json beside it, such as"
                ' {"class": "TopKSAE", "top_k": 32}; classes are ' + ", ".join(_KINDS)
            )
        dictionary = _dictionary(tensors, config, place)
        encoder, bias = _encoder(tensors, dictionary, place)
        settings, per_latent = {}, {}
        notes: tuple[str, ...] = ()
        if name in ("TopKSAE", "BatchTopKSAE"):
            settings = {"k": setting(config, "top_k", int, place)}
        if name == "JumpSAE":
            per_latent = {"threshold": tensor(tensors, "thresholds", place).exp()}
        elif name == "BatchTopKSAE":
            per_latent = {"threshold": torch.full((len(encoder),), setting(config, "running_threshold", float, place))}
            notes = (f"its top_k of {settings['k']} counts the latents of a whole batch: its threshold alone decides",)
            settings = {"k": min(settings["k"], len(encoder))}
        foreign = ForeignSae(
            kind=_KINDS[name],
            encoder=encoder,
            encoder_bias=bias,
            decoder=dictionary,
            decoder_bias=dictionary.new_zeros(dictionary.shape[1]),
            subtracts_decoder_bias=True,
            settings=settings,
            per_latent=per_latent,
            notes=notes,
        )
        return foreign, TrainedAt()


def _dictionary(tensors: Mapping[str, Tensor], config: Mapping[str, Any], place: str) -> Tensor:
    """The dictionary of evaluation: normalised, times the exponential of its multiplier."""
    weights = require_matrix(tensor(tensors, _DICTIONARY, place), _DICTIONARY, place)
    normalisation = config.get("normalization", "l2")
    order = {"l2": 2, "max_l2": 2, "l1": 1, "max_l1": 1}.get(normalisation)
    if order is not None:
        lengths = weights.norm(p=order, dim=1, keepdim=True)
        weights = weights / (lengths.amax() if normalisation.startswith("max") else lengths + _LENGTH_EPSILON)
    elif normalisation != "identity":
        raise UserError(
            f"{place} normalises its dictionary by {normalisation!r}: hsae knows l2, max_l2, l1, max_l1, identity"
        )
    multiplier = tensors.get("dictionary.multiplier")
    return weights if multiplier is None else weights * multiplier.float().exp()


def _encoder(tensors: Mapping[str, Tensor], dictionary: Tensor, place: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear encoder, with a batch normalisation folded; a tied one is the dictionary."""
    zeros = dictionary.new_zeros(len(dictionary))
    of_encoder = {name.removeprefix("encoder.") for name in tensors if name.startswith("encoder.")}
    if "weight" in of_encoder or not of_encoder - {"bias"}:
        weight = tensors.get("encoder.weight", dictionary).float()
        return require_matrix(weight, "encoder.weight", place), tensors.get("encoder.bias", zeros).float()
    linear = {"final_block.0.weight", "final_block.0.bias"}
    batch_norm = {f"final_block.1.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
    if of_encoder - linear - batch_norm - {"final_block.1.num_batches_tracked"} or not linear <= of_encoder:
        raise UserError(
            f"{place} has an encoder that is not linear: hsae imports linear, tied and batch-normalised ones"
        )
    weight = require_matrix(tensor(tensors, "encoder.final_block.0.weight", place), "encoder", place).double()
    bias = tensor(tensors, "encoder.final_block.0.bias", place).double()
    if of_encoder & batch_norm:
        mean, variance, gain, shift = (
            tensor(tensors, f"encoder.final_block.1.{part}", place).double()
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        factor = gain / (variance + 1e-5).sqrt()  # the epsilon of torch's BatchNorm1d
        weight, bias = weight * factor[:, None], (bias - mean) * factor + shift
    return weight, bias
