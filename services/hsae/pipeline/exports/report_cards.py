"""The cards of a report: latents with their strongest images and the histogram of their activations."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64
from safetensors.numpy import load

from hsae.errors import UserError
from hsae.pipeline.gallery.images import ImageUnavailableError
from hsae.pipeline.gallery.map_pictures import map_pictures
from hsae.pipeline.gallery.thumbnails import Thumbnails, data_uri
from hsae.pipeline.inputs.image_split import split_listing
from hsae.report.charts import ActivationHistogram
from hsae.report.charts.names import short_name
from hsae.report.page import Card, CardImage, ImageRow
from hsae.report.page.card_values import card_values
from hsae.split_config import split_of
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import latents_key
from hsae.store.objects import ObjectStore
from hsae.taxonomy import InducedTaxonomy

_Row = Mapping[str, Any]

IMAGES_EACH = 8
SIDE = 112
_N_BINS = 20
_THREADS = 4


class CardMaker:
    """Makes cards of the latents of one data set's analyses.

    Attributes:
        trouble: what could not be shown, in sentences.
    """

    def __init__(
        self, store: ObjectStore, listing: pa.Table, taxonomy: InducedTaxonomy, labels: Mapping[str, str], root: str
    ) -> None:
        """Prepare.

        Args:
            store: with the latents' activations.
            listing: the data set's listing.
            taxonomy: its induced taxonomy.
            labels: by wnid what the data set calls its classes.
            root: `dataset.root`.
        """
        self.trouble: list[str] = []
        self._store, self._listing, self._root = store, listing, root
        self._node_of = {synset.id: node for node, synset in enumerate(taxonomy.synsets)}
        self._closure = taxonomy.closure.tocsc()
        wnids = [taxonomy.synsets[node].id for node in taxonomy.classes.tolist()]
        self._classes, self._starts = _classes_of_images(listing, wnids)
        self._names = [labels.get(wnid) or wnid for wnid in wnids]
        self._synsets = [short_name(taxonomy.synsets[node].name) for node in taxonomy.classes.tolist()]
        self._thumbnails = Thumbnails(None, side=SIDE)

    def cards(self, latents: Sequence[_Row], analyses: Mapping[int, _Row], maps: Sequence[_Row] = ()) -> list[Card]:
        """One card for each of the latents, in order.

        Args:
            latents: rows of `best_labelled_latents`.
            analyses: rows of `measured_analyses` with `sae`, the SAE's name, by analysis.
            maps: rows of `map_rows`, of one method for each analysis.
        """
        histograms = self._histograms(latents, analyses)
        drawn = self._maps(maps)
        shown = {image["path"] for latent in latents for image in latent["top_images"][:IMAGES_EACH]}
        sources = self._sources(sorted(shown))
        return [
            self._card(latent, analyses[latent["analysis_id"]], (sources, drawn), histograms.get(_pair(latent)))
            for latent in latents
        ]

    def _card(
        self,
        latent: _Row,
        analysis: _Row,
        pictures: tuple[Mapping[str, str], Mapping[tuple[int, int, str], str]],
        histogram: ActivationHistogram | None,
    ) -> Card:
        sources, drawn = pictures
        under = self._under(latent["wnid"])
        images = [
            CardImage(
                source=sources.get(image["path"]),
                text=f"{self._class_text(image['image'])}, activation {image['activation']:.3g}",
                is_under_label=bool(under[image["image"]]),
            )
            for image in latent["top_images"][:IMAGES_EACH]
        ]
        return Card(
            anchor=f"latent-{latent['analysis_id']}-{latent['latent']}",
            label=latent["synset"],
            definition=latent["definition"],
            summary=f"layer {latent['layer']} · {analysis['sae']} · latent {latent['latent']}"
            + ("" if latent["text_name"] is None else f" · “{latent['text_name']}” by text"),
            layer=latent["layer"],
            sae=analysis["sae"],
            scale=latent["f1_adjusted"],
            rows=[ImageRow("strongest images", images), *self._map_row(latent, drawn)],
            values=card_values(latent),
            histogram=histogram,
            is_used=bool(latent["is_used"]),
        )

    def _map_row(self, latent: _Row, drawn: Mapping[tuple[int, int, str], str]) -> list[ImageRow]:
        """The row of maps of a card; none where the latent has no map."""
        shown = latent["top_images"][:IMAGES_EACH]
        maps = [drawn.get((*_pair(latent), image["path"])) for image in shown]
        if not any(maps):
            return []
        images = [
            CardImage(
                source=source,
                text=f"where latent {latent['latent']} comes from in this image of {self._class_text(image['image'])}"
                if source
                else "no map of this image",
                is_under_label=None,
            )
            for image, source in zip(shown, maps, strict=True)
        ]
        return [ImageRow("where it comes from; bright patches are the most relevant", images)]

    def _maps(self, rows: Sequence[_Row]) -> dict[tuple[int, int, str], str]:
        """The maps as `data:` URIs, by analysis, latent and path; that they are lost is told."""
        try:
            pictures = map_pictures(self._store, self._thumbnails, rows)
        except (ObjectMissingError, ObjectCorruptError):
            self.trouble.append("Relevancy maps are lost from the object store; the next submit of maps makes them.")
            return {}
        return {place: data_uri(content) for place, content in pictures.items()}

    def _sources(self, paths: Sequence[str]) -> dict[str, str]:
        """The thumbnails as `data:` URIs, by path; what cannot be shown is left out and told."""
        troubles: list[str] = []

        def source(path: str) -> str | None:
            try:
                content = self._thumbnails.get(self._root, path)
            except ImageUnavailableError as error:
                troubles.append(str(error))
                return None
            return data_uri(content)

        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                made = dict(zip(paths, pool.map(source, paths), strict=True))
        except UserError as error:  # the source itself: its scheme, or its server
            troubles.append(str(error))
            made = {}
        if troubles:
            kinds = sorted(set(troubles))
            several = f" ({len(troubles)} of {len(paths)} images)" if len(troubles) > 1 else ""
            self.trouble.append(f"Images that cannot be shown{several}: {kinds[0]}.")
        return {path: uri for path, uri in made.items() if uri is not None}

    def _histograms(
        self, latents: Sequence[_Row], analyses: Mapping[int, _Row]
    ) -> dict[tuple[int, int], ActivationHistogram]:
        by_analysis: dict[int, list[_Row]] = {}
        for latent in latents:
            by_analysis.setdefault(latent["analysis_id"], []).append(latent)
        scored: dict[str, Bool[np.ndarray, "n_images"]] = {}
        found: dict[tuple[int, int], ActivationHistogram] = {}
        lost = []
        for number_, group in by_analysis.items():
            analysis = analyses[number_]
            split = json.dumps(analysis["split"], sort_keys=True)
            if split not in scored:
                scored[split] = self._scored(analysis["split"])
            key = latents_key(analysis["analysis_key"], analysis["activations_sha256"])
            try:
                arrays = load(self._store.get(key, sha256=analysis["activations_sha256"]))
            except (ObjectMissingError, ObjectCorruptError):
                lost.append(str(number_))
                continue
            for latent in group:
                found[_pair(latent)] = self._histogram(arrays, latent, scored[split])
        if lost:
            self.trouble.append(
                f"Histograms of activations: those of analysis {', '.join(lost)} are lost from the object store"
                " (`hsae-admin doctor` looks for lost objects)."
            )
        return found

    def _histogram(
        self, arrays: Mapping[str, np.ndarray], latent: _Row, scored: Bool[np.ndarray, "n_images"]
    ) -> ActivationHistogram:
        entries = np.flatnonzero(arrays["indices"] == latent["latent"])
        rows = np.searchsorted(arrays["indptr"], entries, side="right") - 1
        images, values = arrays["images"][rows], arrays["data"][entries].astype(np.float64)
        fires = scored[images] & (values > 0)
        images, values = images[fires], values[fires]
        n_scored = int(np.count_nonzero(scored[arrays["images"]]))
        edges = np.linspace(0, float(values.max(initial=0.0)) or 1.0, _N_BINS + 1)
        inside = self._under(latent["wnid"])[images]
        return ActivationHistogram(
            edges=[round(edge, 6) for edge in edges.tolist()],
            inside=np.histogram(values[inside], edges)[0].tolist(),
            outside=np.histogram(values[~inside], edges)[0].tolist(),
            n_silent=n_scored - len(values),
        )

    def _scored(self, stored: _Row | None) -> Bool[np.ndarray, "n_images"]:
        config = split_of(stored)
        if config is None:
            return np.ones(self._listing.num_rows, dtype=bool)
        return split_listing(self._listing, config).score

    def _under(self, wnid: str) -> Bool[np.ndarray, "n_images"]:
        """Whether each image of the listing is of a node."""
        of_class = self._closure[:, [self._node_of[wnid]]].toarray().ravel() > 0
        return np.asarray(np.logical_or.reduceat(of_class[self._classes], self._starts[:-1]))

    def _class_text(self, image: int) -> str:
        """What a person calls the classes of an image: the synset's word, where the label is a number."""
        names = []
        for position in self._classes[self._starts[image] : self._starts[image + 1]].tolist():
            label = self._names[position]
            is_number = label[:1] in "nvasr" and label[1:].isdigit()
            names.append(self._synsets[position] if is_number else short_name(label))
        return ", ".join(names)


def _classes_of_images(
    listing: pa.Table, wnids: Sequence[str]
) -> tuple[Int64[np.ndarray, "n_labels"], Int64[np.ndarray, "n_starts"]]:
    """The positions of all classes of all images, one after another, and where those of each image start."""
    if "class_ids" in listing.column_names:
        lists = listing["class_ids"].combine_chunks()
        flat, starts = lists.flatten(), np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())])
    else:
        flat, starts = listing["class_id"].combine_chunks(), np.arange(listing.num_rows + 1)
    positions = pc.index_in(flat, value_set=pa.array(wnids, pa.string()))
    return positions.to_numpy(zero_copy_only=False).astype(np.int64), starts.astype(np.int64)


def _pair(latent: _Row) -> tuple[int, int]:
    return latent["analysis_id"], latent["latent"]
