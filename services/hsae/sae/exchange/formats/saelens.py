"""SAELens: `cfg.json` and `sae_weights.safetensors`, of version 3 to 6."""

from collections.abc import Collection, Mapping
from typing import Any

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
from hsae.sae.exchange.hook_points import TrainedAt, place_of
from hsae.sae.exchange.kinds import row_k
from hsae.sae.exchange.source import Checkpoint

_KINDS = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
_ARCHITECTURES = {
    "relu": "standard", "topk": "topk", "frozen": "topk", "soft_frozen": "topk", "matryoshka_topk": "topk",
    "jumprelu": "jumprelu", "batch_topk": "jumprelu", "matryoshka": "jumprelu", "gated": "gated",
}  # fmt: skip
_OF_BATCHES = ("batch_topk", "matryoshka")
_NO_REASON = {
    "layer_norm": "it divides every row by its own standard deviation",
    "constant_norm_rescale": "it divides every row by its own length",
    "expected_average_only_in": "its factor is not in the files (fold_activation_norm_scaling_factor folds it)",
    "covariance_whitening": "its matrices are not in the files (fold_activation_whitening folds them)",
}


class SaeLens(SaeFormat):
    """SAEs of SAELens, https://github.com/decoderesearch/SAELens."""

    name = "saelens"
    title = "SAELens"

    def recognises(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """By the settings that only its configs have; ViT-Prisma, which comes from it, names the layer otherwise."""
        is_its_own = "architecture" in config or "hook_name" in config
        return {"d_in", "d_sae"} <= set(config) and is_its_own and "hook_point_layer" not in config

    def read(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> tuple[ForeignSae, TrainedAt]:
        """Every architecture whose kind there is."""
        config, place = checkpoint.config, checkpoint.place
        architecture = config.get("architecture", "standard")
        refuse_normalisation(config.get("normalize_activations", "none"), place)
        if config.get("reshape_activations", "none") not in ("none", None):
            raise UserError(f"{place} is of the outputs of attention heads by themselves, which are not extracted")
        if config.get("finetuning_scaling_factor"):
            raise UserError(f"{place} has a finetuning_scaling_factor, which cannot be folded: save it without one")
        kind = _KINDS.get(architecture)
        if kind is None:
            raise UserError(
                f"{place} has the architecture {architecture!r}: hsae imports {', '.join(_KINDS)} of {self.title}"
            )
        settings: dict[str, Any] = {}
        kind, settings = activation_of(config, kind, place)
        if kind == "topk" and "k" not in settings:
            settings["k"] = setting(config, "k", int, place)
        return (
            encoder_decoder(
                tensors,
                place,
                kind=kind,
                settings=settings,
                subtracts_decoder_bias=bool(config.get("apply_b_dec_to_input", True)),
                selects_by_contribution=bool(config.get("rescale_acts_by_decoder_norm", False)),
            ),
            self._trained_at(config),
        )

    def write(self, sae: ForeignSae, trained_at: TrainedAt) -> WrittenFiles:
        """As version 6 does: a BatchTopK SAE is a JumpReLU one of equal thresholds."""
        architecture = _ARCHITECTURES.get(sae.kind)
        if architecture is None:
            raise no_such_kind(sae.kind, self.title, _ARCHITECTURES)
        n_latents, d_model = sae.encoder.shape
        metadata: dict[str, Any] = {"hook_name": trained_at.hook_point, "model_name": trained_at.model}
        place = None if trained_at.hook_point is None else place_of(trained_at.hook_point)
        if place is None or place.layer is None:
            metadata["hook_layer"] = trained_at.layer
        config: dict[str, Any] = {
            "architecture": architecture,
            "d_in": d_model,
            "d_sae": n_latents,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {name: value for name, value in metadata.items() if value is not None},
        }
        k = row_k(sae.kind, sae.settings)
        if k is not None:
            config |= {"k": k, "rescale_acts_by_decoder_norm": False}
        bias = {"b_gate" if architecture == "gated" else "b_enc": sae.encoder_bias}
        tensors = {"W_enc": sae.encoder.T, "W_dec": sae.decoder, "b_dec": sae.decoder_bias, **bias, **sae.per_latent}
        hint = "sae_lens.SAE.load_from_disk(FOLDER)"
        return WrittenFiles("cfg.json", config, "sae_weights.safetensors", tensors, hint)

    def _trained_at(self, config: Mapping[str, Any]) -> TrainedAt:
        """Version 6 has it in `metadata`, earlier ones beside the other settings."""
        metadata = config.get("metadata")
        where = {**config, **(metadata if isinstance(metadata, dict) else {})}
        if where.get("hook_head_index") is not None:
            raise UserError("this SAE is of one attention head: single heads are not extracted")
        layer = where.get("hook_layer")
        name, model = where.get("hook_name"), where.get("model_name")
        return TrainedAt(
            hook_point=name if isinstance(name, str) else None,
            layer=layer if isinstance(layer, int) else None,
            model=model if isinstance(model, str) else None,
        )


def refuse_normalisation(normalisation: object, place: str) -> None:
    """Refuse what inputs are normalised by, unless it is nothing.

    Raises:
        UserError: they are.
    """
    if normalisation in ("none", None):
        return
    reason = _NO_REASON.get(str(normalisation), "hsae does not know it")
    raise UserError(f"{place} normalises its input by {normalisation}, which cannot be folded into weights: {reason}")


def activation_of(config: Mapping[str, Any], kind: str, place: str) -> tuple[str, dict[str, Any]]:
    """The kind and its settings where a standard SAE names an activation function.

    Raises:
        UserError: the function is unknown.
    """
    function = config.get("activation_fn_str") or config.get("activation_fn") or "relu"
    if function == "relu" or kind not in ("relu", "topk"):
        return kind, {}
    if function == "topk":
        given = config.get("activation_fn_kwargs")
        return "topk", {"k": setting(given if isinstance(given, dict) else {}, "k", int, place)}
    raise UserError(f"{place} has the activation function {function!r}: hsae knows relu and topk")


def encoder_decoder(
    tensors: Mapping[str, Tensor],
    place: str,
    *,
    kind: str,
    settings: Mapping[str, Any],
    subtracts_decoder_bias: bool,
    selects_by_contribution: bool = False,
    notes: tuple[str, ...] = (),
) -> ForeignSae:
    """The SAE of `W_enc` [d_model, n_latents], `W_dec` [n_latents, d_model], `b_enc` and `b_dec`.

    Args:
        tensors: by name.
        place: the file, for messages.
        kind: the kind that it is here; jumprelu has a `threshold`, gated `b_gate`, `b_mag` and `r_mag`.
        settings: the kind's settings.
        subtracts_decoder_bias: whether the encoder subtracts `b_dec`.
        selects_by_contribution: as in `ForeignSae`.
        notes: as in `ForeignSae`.

    Raises:
        UserError: a tensor is missing.
    """
    encoder = latents_first(require_matrix(tensor(tensors, "W_enc", place), "W_enc", place))
    own = {"jumprelu": ("threshold",), "gated": ("b_mag", "r_mag"), **dict.fromkeys(_OF_BATCHES, ("threshold",))}
    per_latent = {name: tensor(tensors, name, place) for name in own.get(kind, ())}
    bias = tensor(tensors, "b_gate" if kind == "gated" else "b_enc", place)
    return ForeignSae(
        kind=kind,
        encoder=encoder,
        encoder_bias=bias,
        decoder=require_matrix(tensor(tensors, "W_dec", place), "W_dec", place),
        decoder_bias=tensor(tensors, "b_dec", place),
        subtracts_decoder_bias=subtracts_decoder_bias,
        settings=settings,
        per_latent=per_latent,
        selects_by_contribution=selects_by_contribution,
        notes=notes,
    )
