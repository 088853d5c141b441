"""Writes a stored SAE for another program, and compares the directions of several."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hsae.backbones.hooks.names import RESIDUAL
from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.hook_points import TrainedAt, hook_point_of
from hsae.sae.exchange.write import write_folder, written_files
from hsae.sae.model import SparseAutoencoder
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import imported_key, weights_key
from hsae.store.objects import ObjectStore
from hsae.store.tensors import get_tensors

_SIMILAR = 0.7
_CHUNK = 4_096


def export_sae(store: ObjectStore, row: Mapping[str, Any], folder: Path, format_name: str) -> dict[str, Any]:
    """Write an SAE; returns `files`, their names, and `hint`, how they are read.

    Args:
        store: with the weights.
        row: of the SAE: id (None: of an imported one), key, config, weights_sha256, layer, model, tokens, hook.
        folder: made if it is missing.
        format_name: one of `WRITTEN_FORMATS`.

    Raises:
        UserError: the weights are lost, the folder cannot be written, or the format has no SAE of this kind.
    """
    config = SaeConfig.parse(row["config"])
    sae = SparseAutoencoder.from_tensors(_weights(store, row), config)
    origin = config.imported
    hook = row.get("hook", RESIDUAL) if origin is None else origin.hook
    trained_at = TrainedAt(
        hook_point=hook_point_of(row["layer"], hook) if origin is None else origin.hook_point,
        layer=row["layer"],
        model=row["model"] if origin is None else origin.model,
        tokens=row["tokens"],
        hook=hook,
    )
    files = written_files(config, sae.to_tensors(), trained_at, format_name)
    write_folder(files, folder)
    return {"files": [files.config_name, files.weights_name], "hint": files.hint}


def matched_directions(store: ObjectStore, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How similar the directions of SAEs are: a row for each ordered pair of activations of the same width.

    `mean_cosine` is the mean over the latents of `sae` of the greatest cosine with a direction of `other`,
    `share_above` the share of latents for which it is above 0.7, `chance` the mean greatest cosine of as many random
    directions.

    Raises:
        UserError: the weights of one are lost.
    """
    directions = {row["id"]: _weights(store, row)["decoder_weight"].float() for row in rows}
    found = []
    for sae, other in combinations(directions, 2):
        if directions[sae].shape[1] != directions[other].shape[1]:
            continue
        for one, two in ((sae, other), (other, sae)):
            best = greatest_cosines(directions[one], directions[two])
            by_chance = greatest_cosines(_random(directions[one], one), _random(directions[two], two))
            found.append(
                {
                    "sae": one,
                    "other": two,
                    "n": best.shape[0],
                    "mean_cosine": float(best.mean()),
                    "share_above": float((best > _SIMILAR).double().mean()),
                    "chance": float(by_chance.mean()),
                }
            )
    return found


def greatest_cosines(directions: Float[Tensor, "n d_model"], others: Float[Tensor, "m d_model"]) -> Float[Tensor, "n"]:
    """The greatest cosine of each direction with one of the others; all have unit norm."""
    return torch.cat([(chunk @ others.T).amax(dim=1) for chunk in torch.split(directions, _CHUNK)])


def _random(like: Tensor, seed: int) -> Tensor:
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=1)


def _weights(store: ObjectStore, row: Mapping[str, Any]) -> dict[str, Tensor]:
    key = imported_key if row["id"] is None else weights_key
    try:
        return get_tensors(store, key(row["key"], row["weights_sha256"]), sha256=row["weights_sha256"])[0]
    except (ObjectMissingError, ObjectCorruptError) as loss:
        raise UserError(
            f"the weights are lost ({loss}): `hsae-admin doctor` finds and queues what can be made again"
        ) from loss
