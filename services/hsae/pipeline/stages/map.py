"""Stage map: one analysis and its images -> relevancy maps in the object store, a row for each in Postgres."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sqlalchemy import delete, select

from hsae.backbones.backbone import Backbone
from hsae.backbones.passes.traced_pass import NoAttentionWeightsError
from hsae.catalog import Analysis, Json, LatentMap, MapSet, Sae
from hsae.catalog.findings.maps import latents_to_map
from hsae.catalog.server.bulk_copy import copy_rows
from hsae.datasets import source_at
from hsae.devices.numerics import same_bits
from hsae.errors import UserError
from hsae.extraction.batches import Batch, iterate_batches
from hsae.extraction.listed import listed_images
from hsae.pipeline.inputs.stored import read_listing
from hsae.pipeline.kinds.map import MAP, MapRequest
from hsae.pipeline.stages.context import StageContext
from hsae.relevancy.config import INSTEAD, WITH_ATTENTION, MapMethod
from hsae.relevancy.map_summary import summarise
from hsae.relevancy.objective import LatentObjective
from hsae.relevancy.relevance import Relevance, relevance_maps
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import maps_key, weights_key
from hsae.store.objects import StoredObject
from hsae.store.tensors import get_tensors, put_tensors

log = logging.getLogger(__name__)

_SCHEMA = pa.schema(
    [
        ("method", pa.string()), ("latent", pa.int32()), ("rank", pa.int16()), ("image", pa.int32()),
        ("path", pa.string()), ("activation", pa.float64()), ("map_index", pa.int32()), ("peak", pa.float64()),
        ("peak_row", pa.int16()), ("peak_col", pa.int16()), ("concentration", pa.float64()),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Pair:
    """A latent and its rank-th strongest image, from 1."""

    latent: int
    rank: int
    image: int
    path: str


@dataclass(slots=True)
class _Found:
    """The maps so far: by method their values, and rows of latent_map."""

    values: dict[str, list[np.ndarray]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, method: str, pair: _Pair, activation: float, values: np.ndarray) -> None:
        """Add a map; an undefined one has a row alone."""
        row = {"method": method, "latent": pair.latent, "rank": pair.rank, "image": pair.image, "path": pair.path}
        row["activation"] = activation if np.isfinite(activation) else None
        summary = summarise(values)
        if summary is not None:
            stored = self.values.setdefault(method, [])
            row |= {
                "map_index": len(stored), "peak": summary.peak, "peak_row": summary.peak_row,
                "peak_col": summary.peak_col, "concentration": summary.concentration,
            }  # fmt: skip
            stored.append(summary.scaled)
        self.rows.append(row)

    def add_unread(self, methods: Sequence[str], pair: _Pair) -> None:
        """Add the rows of an image that could not be read."""
        for method in methods:
            self.rows.append(
                {"method": method, "latent": pair.latent, "rank": pair.rank, "image": pair.image, "path": pair.path}
            )

    @property
    def n_undefined(self) -> int:
        """Rows without a map."""
        return sum("map_index" not in row for row in self.rows)


def make_maps(request: MapRequest, context: StageContext) -> Json:
    """Make the maps and publish everything in one transaction.

    Raises:
        UserError: the analysis or its SAE does not exist, or an image is not the one that was registered.
    """
    with context.reading() as session:
        done = session.execute(select(MapSet).where(MapSet.key == request.key)).scalar_one_or_none()
        analysis = session.execute(select(Analysis).where(Analysis.key == request.analysis_key)).scalar_one_or_none()
        sae_row = session.execute(select(Sae).where(Sae.key == request.sae_key)).scalar_one_or_none()
        chosen = [] if analysis is None else latents_to_map(session, analysis.id, request.maps.latents)
    if done is not None and _is_stored(done, context):  # a former attempt ended between publishing and saying so
        return _summary(done)
    if analysis is None or sae_row is None:
        raise UserError(f"analysis {request.analysis_key} is not there: submit the request again to make it")
    pairs = [
        _Pair(row["latent"], rank, top["image"], top["path"])
        for row in chosen
        for rank, top in enumerate(row["top_images"][: request.maps.images], start=1)
    ]
    if len(chosen) < request.maps.latents:
        log.info("%d latents have a label, fewer than the %d asked for", len(chosen), request.maps.latents)
    tensors, _ = get_tensors(
        context.store, weights_key(request.sae_key, sae_row.weights_sha256), sha256=sae_row.weights_sha256
    )
    sae = SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(sae_row.config)).requires_grad_(False)
    backbone = Backbone.load(
        request.model,
        layers=(request.layer,),
        device=context.device,
        cache_dir=context.settings.model_cache,
        precision=request.extraction.precision,
    )
    maker = _Maker(request, context, backbone, sae.to(context.device))
    found = maker.all_maps(pairs)
    context.check()
    stored = _put(request, context, found, maker.methods, backbone.patch_grid)
    if found.n_undefined:
        log.warning("%d of %d maps are undefined: no patch is relevant", found.n_undefined, len(found.rows))
    return _publish(request, context, analysis.id, found, stored, len(chosen), backbone.patch_grid)


class _Maker:
    """Makes the maps batch by batch."""

    def __init__(self, request: MapRequest, context: StageContext, backbone: Backbone, sae: SparseAutoencoder) -> None:
        self._request = request
        self._context = context
        self._backbone = backbone
        self._sae = sae
        self.methods: tuple[MapMethod, ...] = request.maps.methods

    def all_maps(self, pairs: Sequence[_Pair]) -> _Found:
        """The maps of all pairs, in their order."""
        request, size = self._request, self._request.maps.batch_size
        extraction = request.extraction.model_copy(update={"batch_size": size, "n_views": 1, "seed": 0})
        listing = read_listing(self._context.store, request.dataset)
        listed = listed_images(listing, [pair.image for pair in pairs])
        found = _Found()
        source = source_at(request.dataset.root)
        self._context.progress(0, len(pairs), MAP.unit)
        n_done = 0
        for batch in iterate_batches(self._backbone, source, listed, extraction):
            self._add_batch(found, pairs[n_done : n_done + size], batch)
            n_done += len(batch.images) + len(batch.skipped)
            self._context.progress(n_done, len(pairs), MAP.unit)
            self._context.check()
        return found

    def _add_batch(self, found: _Found, pairs: Sequence[_Pair], batch: Batch) -> None:
        unread = {skipped.image for skipped in batch.skipped}
        read = [pair for pair in pairs if pair.image not in unread]
        results: list[Relevance] = []
        n_rows = self._request.images_at_once
        for start in range(0, len(read), n_rows):
            part = read[start : start + n_rows]
            results.append(self._maps(part, batch.views[0][start : start + n_rows]))
        for pair in pairs:
            if pair.image in unread:
                found.add_unread(self.methods, pair)
        place = 0
        for result in results:
            for row, activation in enumerate(result.activations.tolist()):
                for method, maps in result.maps.items():
                    found.add(method, read[place], activation, maps[row].numpy())
                place += 1

    def _maps(self, pairs: Sequence[_Pair], images: torch.Tensor) -> Relevance:
        request = self._request
        latents = torch.tensor([pair.latent for pair in pairs], device=self._context.device)
        objective = LatentObjective(self._sae, latents, request.extraction.tokens)
        seeds = [_seed(request.maps.seed, pair) for pair in pairs]
        at_once = request.images_at_once
        fewer = f"write `map: {{batch_size: {max(1, at_once // 2)}}}` in a study file, or choose a shallower layer"
        try:
            with (
                self._context.device_memory(f"maps of {at_once} images at once do not fit: {fewer}"),
                same_bits(self._context.device),
            ):
                return relevance_maps(self._backbone, request.layer, objective, images, self.methods, seeds=seeds)
        except NoAttentionWeightsError as error:
            without = [method for method in self.methods if method not in WITH_ATTENTION]
            self.methods = tuple(dict.fromkeys([INSTEAD, *without]))
            self._context.event(f"{error}; maps are made by {', '.join(self.methods)}")
            return self._maps(pairs, images)


def _seed(seed: int, pair: _Pair) -> int:
    """Of the random map of a latent on an image."""
    return int(np.random.SeedSequence([seed, pair.latent, pair.image]).generate_state(1)[0])


def _is_stored(row: MapSet, context: StageContext) -> bool:
    try:
        context.store.get(maps_key(row.key, row.maps_sha256), sha256=row.maps_sha256)
    except (ObjectMissingError, ObjectCorruptError):
        return False  # lost since: the same object is made again
    return True


def _put(
    request: MapRequest, context: StageContext, found: _Found, methods: Sequence[str], grid: tuple[int, int]
) -> StoredObject:
    empty = np.empty((0, *grid), np.float16)
    tensors = {
        method: torch.from_numpy(np.stack(found.values[method]) if found.values.get(method) else empty)
        for method in methods
    }
    return put_tensors(context.store, maps_key(request.key), tensors, {"analysis": request.analysis_key})


def _publish(
    request: MapRequest,
    context: StageContext,
    analysis_id: int,
    found: _Found,
    stored: StoredObject,
    n_latents: int,
    grid: tuple[int, int],
) -> Json:
    with context.transaction() as session:
        row = session.scalars(select(MapSet).where(MapSet.key == request.key)).one_or_none()
        if row is None:
            row = MapSet(key=request.key, analysis_id=analysis_id, job_id=context.job_id, config=request.config)
            session.add(row)
        else:  # its object was lost; other images may have been read since, and then other rows belong to its maps
            session.execute(delete(LatentMap).where(LatentMap.map_set_id == row.id))
        row.n_latents = n_latents
        row.n_maps = len(found.rows) - found.n_undefined
        row.n_undefined = found.n_undefined
        row.n_patch_rows, row.n_patch_cols = grid
        row.maps_sha256 = stored.sha256
        session.flush()
        table = pa.Table.from_pylist(found.rows, schema=_SCHEMA)
        copy_rows(session, "latent_map", table.append_column("map_set_id", pa.repeat(row.id, len(table))))
        return _summary(row)


def _summary(row: MapSet) -> Json:
    return {"map_set": row.id, "n_latents": row.n_latents, "n_maps": row.n_maps, "n_undefined": row.n_undefined}
