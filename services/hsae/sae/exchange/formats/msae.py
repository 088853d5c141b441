"""MSAE (Matryoshka SAEs of CLIP): a checkpoint turned into safetensors that keeps its telling name."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hsae.errors import UserError
from hsae.sae.exchange.foreign import ForeignSae
from hsae.sae.exchange.formats.format import SaeFormat, latents_first, require_matrix, tensor
from hsae.sae.exchange.hook_points import TrainedAt
from hsae.sae.exchange.source import Checkpoint

# <n_latents>_<n_inputs>_<activation>[_<k or L1>][_<UW or RW>]_<tied>_<normalize>_<latent_soft_cap>_..., all settings.
_NAME = re.compile(
    r"(?P<n_latents>\d+)_(?P<n_inputs>\d+)_(?P<activation>[A-Za-z]+)(?:_(?P<number>[\d.e-]+))?(?:_[A-Z]*(?:UW|RW)[A-Z]*)?"
    r"_(?P<tied>True|False)_(?P<normalize>True|False)_(?P<cap>[\d.]+)(?:_.*)?"
)
_KINDS = {"ReLU": "relu", "TopKReLU": "topk", "TopK": "topk", "JumpReLU": "jumprelu"}


class Msae(SaeFormat):
    """SAEs of MSAE, https://github.com/WolodjaZ/MSAE; a tied one has no `decoder`."""

    name = "msae"
    title = "MSAE"

    def recognises(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """By its tensors."""
        return {"pre_bias", "latent_bias", "encoder"} <= set(names)

    def read(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> tuple[ForeignSae, TrainedAt]:
        """A nested SAE is the TopK SAE of its largest k, as its package loads it."""
        place, named = checkpoint.place, _NAME.fullmatch(checkpoint.weights.stem)
        if named is None:
            raise UserError(
                f"{place} needs the name that MSAE gave it, which has its settings, such as"
                " 16384_768_TopKReLU_64_RW_False_False_0.0_name.safetensors"
            )
        kind = _KINDS.get(named["activation"])
        if kind is None:
            raise UserError(f"{place} has the activation {named['activation']!r}: hsae imports {', '.join(_KINDS)}")
        if named["normalize"] == "True":
            raise UserError(f"{place} normalises every row by itself, which cannot be folded into weights")
        if float(named["cap"]) > 0:
            raise UserError(
                f"{place} caps latents softly (tanh) at {named['cap']}: hsae has no such activation function"
            )
        if kind == "topk" and not (named["number"] or "").isdigit():
            raise UserError(f"{place} names no k of its {named['activation']}: give it the name that MSAE gave it")
        encoder = latents_first(require_matrix(tensor(tensors, "encoder", place), "encoder", place))
        per_latent = {}
        if kind == "jumprelu":
            per_latent = {"threshold": tensor(tensors, "activation.log_threshold", place).exp()}
        mean = tensors.get("mean_center")
        scale = tensors.get("scaling_factor")
        foreign = ForeignSae(
            kind=kind,
            encoder=encoder,
            encoder_bias=tensor(tensors, "latent_bias", place),
            decoder=encoder if named["tied"] == "True" else tensor(tensors, "decoder", place),
            decoder_bias=tensor(tensors, "pre_bias", place),
            subtracts_decoder_bias=True,
            settings={"k": int(named["number"])} if kind == "topk" else {},
            per_latent=per_latent,
            input_scale=1.0 if scale is None else float(scale),
            input_mean=None if mean is None else mean.float().expand(encoder.shape[1]),
        )
        return foreign, TrainedAt()

    def tensors_of_pickle(self, weights: Path) -> str:
        """The mean and the scale of the inputs stand beside the state."""
        return (
            f"c = torch.load('{weights.name}', map_location='cpu', weights_only=True);"
            " t = {**c['model'], **{n: torch.as_tensor(c[n]).float() for n in ('mean_center', 'scaling_factor')}}"
        )
