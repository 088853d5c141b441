"""sparsify (EleutherAI): `cfg.json` and `sae.safetensors`, in a folder that is named after its hook point."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from hsae.errors import UserError
from hsae.sae.exchange.foreign import ForeignSae
from hsae.sae.exchange.formats.format import SaeFormat, WrittenFiles, no_such_kind, require_matrix, setting, tensor
from hsae.sae.exchange.hook_points import TrainedAt, place_of
from hsae.sae.exchange.kinds import row_k
from hsae.sae.exchange.source import Checkpoint


class Sparsify(SaeFormat):
    """SAEs of sparsify, https://github.com/EleutherAI/sparsify: TopK after a ReLU, `b_dec` subtracted."""

    name = "sparsify"
    title = "sparsify"

    def recognises(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """By the settings that only its configs have."""
        return {"d_in", "k", "expansion_factor"} <= set(config) and "architecture" not in config

    def read(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> tuple[ForeignSae, TrainedAt]:
        """TopK; `groupmax`, transcoders and skip connections are something else."""
        config, place = checkpoint.config, checkpoint.place
        if config.get("activation", "topk") != "topk":
            raise UserError(f"{place} has the activation {config['activation']!r}: hsae imports topk of {self.title}")
        if config.get("transcode") or config.get("skip_connection"):
            raise UserError(f"{place} is a transcoder or has a skip connection: only SAEs are imported")
        foreign = ForeignSae(
            kind="topk",
            encoder=require_matrix(tensor(tensors, "encoder.weight", place), "encoder.weight", place),
            encoder_bias=tensor(tensors, "encoder.bias", place),
            decoder=require_matrix(tensor(tensors, "W_dec", place), "W_dec", place),
            decoder_bias=tensor(tensors, "b_dec", place),
            subtracts_decoder_bias=True,
            settings={"k": setting(config, "k", int, place)},
        )
        folder = checkpoint.weights.absolute().parent.name
        # A folder may have any name: it says where the SAE was trained only where it is that of a place.
        return foreign, TrainedAt(hook_point=folder if "." in folder and place_of(folder) is not None else None)

    def write(self, sae: ForeignSae, trained_at: TrainedAt) -> WrittenFiles:
        """The TopK kinds."""
        k = row_k(sae.kind, sae.settings)
        if k is None:
            raise no_such_kind(sae.kind, self.title, ("topk", "frozen", "soft_frozen"))
        n_latents, d_model = sae.encoder.shape
        config = {
            "activation": "topk",
            "expansion_factor": max(1, round(n_latents / d_model)),
            "normalize_decoder": True,
            "num_latents": n_latents,
            "k": k,
            "multi_topk": False,
            "skip_connection": False,
            "transcode": False,
            "d_in": d_model,
        }
        tensors = {
            "encoder.weight": sae.encoder,
            "encoder.bias": sae.encoder_bias,
            "W_dec": sae.decoder,
            "b_dec": sae.decoder_bias,
        }
        return WrittenFiles(
            "cfg.json", config, "sae.safetensors", tensors, "sparsify.SparseCoder.load_from_disk(FOLDER)"
        )
