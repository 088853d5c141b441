"""dictionary_learning: `config.json`, and `ae.pt` turned into `ae.safetensors`."""

from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.exchange.foreign import ForeignSae
from hsae.sae.exchange.formats.format import (
    SaeFormat,
    WrittenFiles,
    latents_first,
    no_such_kind,
    require_matrix,
    setting,
    tensor,
)
from hsae.sae.exchange.formats.saelens import encoder_decoder
from hsae.sae.exchange.hook_points import TrainedAt
from hsae.sae.exchange.kinds import row_k
from hsae.sae.exchange.source import Checkpoint

_KINDS = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "AutoEncoderTopK": "topk",
    "JumpReluAutoEncoder": "jumprelu",
    "GatedAutoEncoder": "gated",
    "BatchTopKSAE": "batch_topk",
    "MatryoshkaBatchTopKSAE": "matryoshka",
}
_CLASSES = {
    "relu": "AutoEncoder", "topk": "AutoEncoderTopK", "frozen": "AutoEncoderTopK", "soft_frozen": "AutoEncoderTopK",
    "matryoshka_topk": "AutoEncoderTopK", "jumprelu": "JumpReluAutoEncoder", "gated": "GatedAutoEncoder",
    "batch_topk": "BatchTopKSAE", "matryoshka": "MatryoshkaBatchTopKSAE",
}  # fmt: skip
_GATED = {"b_mag": "mag_bias", "r_mag": "r_mag"}
_DECODER_BIAS = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias", "GatedAutoEncoder": "decoder_bias"}


class DictionaryLearning(SaeFormat):
    """Dictionaries of dictionary_learning, https://github.com/saprmarks/dictionary_learning."""

    name = "dictionary_learning"
    title = "dictionary_learning"

    def recognises(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """By the class that its configs name, or else by names of tensors that no other package has."""
        trainer = config.get("trainer")
        if isinstance(trainer, dict):
            return "dict_class" in trainer
        return not config and {"encoder.weight", "decoder.weight"} <= set(names)

    def read(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> tuple[ForeignSae, TrainedAt]:
        """Every class whose kind there is."""
        trainer = checkpoint.config.get("trainer")
        trainer = trainer if isinstance(trainer, dict) else {}
        name = trainer.get("dict_class") or _class_of(tensors)
        if name not in _KINDS:
            raise UserError(f"{checkpoint.place} is a {name}: hsae imports {', '.join(_KINDS)} of {self.title}")
        return _read(name, trainer, tensors, checkpoint.place), _trained_at(trainer)

    def write(self, sae: ForeignSae, trained_at: TrainedAt) -> WrittenFiles:
        """The state dict as safetensors, as `ae.pt` would be a pickle."""
        name = _CLASSES.get(sae.kind)
        if name is None:
            raise no_such_kind(sae.kind, self.title, _CLASSES)
        n_latents, d_model = sae.encoder.shape
        k = row_k(sae.kind, sae.settings) or sae.settings.get("k")
        trainer = {
            "dict_class": name, "activation_dim": d_model, "dict_size": n_latents, "k": k if "TopK" in name else None,
            "layer": trained_at.layer, "lm_name": trained_at.model, "submodule_name": trained_at.hook_point,
        }  # fmt: skip
        config = {"trainer": {key: value for key, value in trainer.items() if value is not None}}
        hint = f"{name}(...).load_state_dict(safetensors.torch.load_file(FOLDER/ae.safetensors))"
        return WrittenFiles("config.json", config, "ae.safetensors", _state(name, sae, k), hint)


def _state(name: str, sae: ForeignSae, k: int | None) -> dict[str, Tensor]:
    """The state dict of a class."""
    threshold = sae.per_latent.get("threshold")
    if name in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        # The first of them subtracts no bias: what that would add is in the encoder's.
        shift = sae.encoder.double() @ sae.decoder_bias.double() if name == "JumpReluAutoEncoder" else 0
        state = {
            "W_enc": sae.encoder.T,
            "b_enc": (sae.encoder_bias.double() - shift).float(),
            "W_dec": sae.decoder,
            "b_dec": sae.decoder_bias,
        }
    else:
        state = {
            "encoder.weight": sae.encoder,
            "decoder.weight": sae.decoder.T,
            _DECODER_BIAS.get(name, "b_dec"): sae.decoder_bias,
        }
        if name == "GatedAutoEncoder":
            of_paths = {_GATED[ours]: found for ours, found in sae.per_latent.items()}
            return state | {"gate_bias": sae.encoder_bias} | of_paths
        state["encoder.bias"] = sae.encoder_bias
    if k is not None:
        state["k"] = torch.tensor(k, dtype=torch.int32)
        state["threshold"] = torch.tensor(-1.0) if threshold is None else threshold[0]
    elif threshold is not None:
        state["threshold"] = threshold
    if name == "MatryoshkaBatchTopKSAE":
        shares = [Fraction(share) for share in str(sae.settings["groups"]).split(",")]
        ends = [0, *(max(1, round(share * len(sae.encoder))) for share in shares)]
        state["group_sizes"] = torch.tensor(ends).diff()
    return state


def _class_of(tensors: Mapping[str, Tensor]) -> str:
    """Of files without a config; a class with a threshold but no `k` cannot be told from others by its tensors."""
    names = set(tensors)
    if "r_mag" in names:
        return "GatedAutoEncoder"
    if "k" in names:
        return "AutoEncoderTopK" if float(tensors.get("threshold", -1.0)) < 0 else "unknown class (TopK or BatchTopK)"
    return "AutoEncoder" if "bias" in names else "AutoEncoderNew" if "decoder.bias" in names else "unknown class"


def _read(name: str, trainer: Mapping[str, Any], tensors: Mapping[str, Tensor], place: str) -> ForeignSae:
    kind = _KINDS[name]
    if name == "JumpReluAutoEncoder":
        return encoder_decoder(tensors, place, kind=kind, settings={}, subtracts_decoder_bias=False)
    k = {"k": int(tensors["k"]) if "k" in tensors else trainer.get("k")}
    if "TopK" in name:
        k = {"k": setting(k, "k", int, place)}
    if name == "MatryoshkaBatchTopKSAE":
        return encoder_decoder(
            {**tensors, "threshold": _threshold(tensors, tensor(tensors, "b_enc", place), place)},
            place,
            kind=kind,
            settings={**k, "groups": _groups(tensor(tensors, "group_sizes", place), place)},
            subtracts_decoder_bias=True,
        )
    encoder = require_matrix(tensor(tensors, "encoder.weight", place), "encoder.weight", place)
    zeros = encoder.new_zeros(len(encoder))
    per_latent = {}
    if name == "BatchTopKSAE":
        per_latent = {"threshold": _threshold(tensors, zeros, place)}
    elif name == "GatedAutoEncoder":
        per_latent = {ours: tensor(tensors, theirs, place) for ours, theirs in _GATED.items()}
    return ForeignSae(
        kind=kind,
        encoder=encoder,
        encoder_bias=tensor(tensors, "gate_bias" if name == "GatedAutoEncoder" else "encoder.bias", place),
        decoder=latents_first(require_matrix(tensor(tensors, "decoder.weight", place), "decoder.weight", place)),
        decoder_bias=tensor(tensors, _DECODER_BIAS.get(name, "b_dec"), place),
        subtracts_decoder_bias=name != "AutoEncoderNew",
        settings=k if "TopK" in name else {},
        per_latent=per_latent,
    )


def _threshold(tensors: Mapping[str, Tensor], zeros: Tensor, place: str) -> Tensor:
    """The one threshold of inference, for every latent."""
    threshold = tensor(tensors, "threshold", place)
    if threshold.numel() != 1 or float(threshold) < 0:
        raise UserError(f"{place} has no threshold yet (its training was too short for one): train it on")
    return zeros * 0 + threshold


def _groups(sizes: Tensor, place: str) -> str:
    """Sizes of groups as rising shares of the dictionary."""
    if sizes.numel() == 0 or bool((sizes < 1).any()):
        raise UserError(f"group_sizes of {place} are {sizes.long().tolist()}: every group needs a latent")
    ends = sizes.long().cumsum(0).tolist()
    return ",".join(str(Fraction(end, ends[-1])) for end in ends)


def _trained_at(trainer: Mapping[str, Any]) -> TrainedAt:
    layer, module, model = trainer.get("layer"), trainer.get("submodule_name"), trainer.get("lm_name")
    return TrainedAt(
        hook_point=module if isinstance(module, str) else None,
        layer=layer if isinstance(layer, int) and not isinstance(layer, bool) else None,
        model=model if isinstance(model, str) else None,
    )
