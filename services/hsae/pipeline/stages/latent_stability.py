"""Seed stability of the SAEs of one configuration and layer, as rows of the catalog."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from hsae.catalog.findings.study_inputs import AnalysisRow
from hsae.hierarchy.study.seed_stability import is_matched_one_to_one, seed_stability
from hsae.pipeline.stages.context import StageContext
from hsae.sae.initialisation import initial_directions
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors


def stability_rows(members: Mapping[int, AnalysisRow], context: StageContext) -> list[pa.Table]:
    """Rows of latent_stability, without the comparison's number; none of a single seed.

    Args:
        members: the analyses by the seed of their SAE.
        context: where the weights are stored.

    Raises:
        ObjectMissingError, ObjectCorruptError: the weights of an SAE are not there.
    """
    if len(members) < 2:
        return []
    decoders = []
    for row in members.values():
        context.check()
        key = weights_key(row.sae_key, row.weights_sha256)
        tensors, _ = get_tensors(context.store, key, sha256=row.weights_sha256)
        decoders.append(tensors["decoder_weight"].float().cpu().numpy())
    n_latents, d_model = decoders[0].shape
    context.check()
    untrained = [initial_directions(n_latents, d_model, seed).numpy() for seed in members]
    chance = float(seed_stability(untrained).mean())
    context.check()
    return [
        pa.table(
            {
                "analysis_id": np.full(n_latents, row.id),
                "latent": np.arange(n_latents),
                "stability": stability,
                "chance": np.full(n_latents, chance),
                "is_one_to_one": np.full(n_latents, is_matched_one_to_one(n_latents)),
            }
        )
        for row, stability in zip(members.values(), seed_stability(decoders), strict=True)
    ]
