"""saev: one file of a JSON line and a state dict, turned into a `config.json` of the line and safetensors."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hsae.errors import UserError
from hsae.sae.exchange.foreign import ForeignSae
from hsae.sae.exchange.formats.format import SaeFormat, setting
from hsae.sae.exchange.formats.saelens import encoder_decoder
from hsae.sae.exchange.hook_points import TrainedAt
from hsae.sae.exchange.source import Checkpoint

_NEGATIVE = (
    "the package keeps negative latents where fewer than k are positive; here they are 0, as latents are never negative"
)


class Saev(SaeFormat):
    """SAEs of saev, https://github.com/OSU-NLP-Group/saev.

    Without a `schema` (version 0.1.0) the encoder subtracts `b_dec`; in schema 2 it does not.
    """

    name = "saev"
    title = "saev"

    def recognises(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """By the width's name."""
        inside = config.get("cfg")
        return "d_vit" in (inside if isinstance(inside, dict) else config)

    def read(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> tuple[ForeignSae, TrainedAt]:
        """ReLU, TopK and its BatchTopK, which takes k of every row as TopK does."""
        config, place = checkpoint.config, checkpoint.place
        schema = config.get("schema")
        if schema not in (None, 2):
            raise UserError(f"{place} has the schema {schema} of saev: hsae knows files without one and of schema 2")
        kind, settings = "relu", {}
        notes: tuple[str, ...] = ()
        if schema == 2:
            activation = config["cfg"].get("activation")
            activation = activation if isinstance(activation, dict) else {}
            name, given = activation.get("cls"), activation.get("params") or {}
            if name in ("TopK", "BatchTopK"):
                kind, settings, notes = "topk", {"k": setting(given, "top_k", int, place)}, (_NEGATIVE,)
            elif name != "Relu":
                raise UserError(f"{place} has the activation {name!r}: hsae knows Relu, TopK and BatchTopK of saev")
        foreign = encoder_decoder(
            tensors, place, kind=kind, settings=settings, subtracts_decoder_bias=schema is None, notes=notes
        )
        return foreign, TrainedAt()

    def tensors_of_pickle(self, weights: Path) -> str:
        """The line of JSON comes first."""
        return (
            f"f = open('{weights.name}', 'rb'); open('config.json', 'wb').write(f.readline()); import io;"
            " t = torch.load(io.BytesIO(f.read()), map_location='cpu', weights_only=True)"
        )
