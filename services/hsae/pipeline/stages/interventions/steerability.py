"""Latents, neurons and random directions one by one, each driven to the top of its range, and the rows of that."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64

from hsae.interventions.alone.steerability import (
    ImageRows,
    driven_directions,
    driven_edits,
    driven_neurons,
    share_of,
    shifts,
)
from hsae.interventions.config import UNITS, InterveneSettings, Unit
from hsae.interventions.edits import Edit, LatentEdit, TokenPlaces
from hsae.interventions.measure import Reader, ScoredBatch
from hsae.interventions.passes import Intervention, LayerEdit
from hsae.pipeline.stages.activation_reader import iterate_plain_images
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.interventions.arms import ArmMaker
from hsae.pipeline.stages.interventions.rows import Row
from hsae.pipeline.stages.interventions.scene import Scene, some_images
from hsae.pipeline.stages.interventions.streams import Streams


def steerability_rows(
    settings: InterveneSettings,
    context: StageContext,
    scene: Scene,
    streams: Streams,
    maker: ArmMaker,
    reader: Reader,
    places: TokenPlaces,
) -> list[Row]:
    """Rows of intervention_steerability: for each readout with probabilities, kind of unit and amount."""
    edits = _edits(settings, context, scene, maker)
    interventions = [Intervention((LayerEdit(reader.layer, places, edit),)) for unit in UNITS for edit in edits[unit]]
    images = some_images(scene.parts.score, scene.labels, settings.steer_images, settings.seed)

    def batches() -> Iterator[ScoredBatch]:
        for batch in streams.of(images):
            yield ScoredBatch(batch.blocks, batch.stream, scene.labels[batch.images])

    measured = shifts(batches(), interventions, reader, check=context.check)
    found: list[Row] = []
    for at, readout in enumerate(measured.readouts):
        start = 0
        for unit in UNITS:
            here = slice(start, start + len(edits[unit]))
            start = here.stop
            shift, moved = measured.shift[at, here], measured.moved[here]
            for amount in settings.steer_amounts:
                share = share_of(shift, amount)
                found.append(
                    {
                        "readout": readout.name,
                        "units": unit,
                        "amount": amount,
                        "n_units": len(shift),
                        "n_images": measured.n_images,
                        "share": share.value,
                        "share_low": share.low,
                        "share_high": share.high,
                        "shift": float(np.median(shift)) if len(shift) else float("nan"),
                        "moved": float(np.median(moved)) if len(moved) else float("nan"),
                    }
                )
    return found


def _edits(settings: InterveneSettings, context: StageContext, scene: Scene, maker: ArmMaker) -> dict[Unit, list[Edit]]:
    """One edit for each unit. Latents are drawn from those that fire on images that select."""
    n, quantile, device = settings.steer, settings.steer_quantile, context.device
    columns = maker.z.tocsc()
    alive = np.flatnonzero(np.diff(columns.indptr))
    rng = np.random.Generator(np.random.PCG64(settings.seed))
    latents = np.sort(rng.choice(alive, min(n, len(alive)), replace=False)).tolist()
    of_latents: list[Edit] = []
    for latent in latents:
        top = float(np.quantile(columns.data[columns.indptr[latent] : columns.indptr[latent + 1]], quantile))
        index = torch.tensor([latent], device=device)
        of_latents.append(LatentEdit(scene.own.sae, index, "clamp", torch.tensor([top], device=device)))
    x = _rows(context, scene, some_images(scene.parts.select, scene.labels, settings.steer_images, settings.seed))
    return {
        "latents": of_latents,
        "neurons": [*driven_edits(driven_neurons(x, n, quantile, settings.seed), device)],
        "random": [*driven_edits(driven_directions(x, n, quantile, settings.seed), device)],
    }


def _rows(context: StageContext, scene: Scene, images: Int64[np.ndarray, "n"]) -> ImageRows:
    """All stored rows of some images."""
    wanted = scene.wanted(images)
    found = []
    for plain in iterate_plain_images(context, scene.own.manifest):
        chosen = torch.from_numpy(np.flatnonzero(wanted[plain.image_index.numpy()]))
        found.append(plain.activations[chosen].float().numpy())
    return np.concatenate(found)
