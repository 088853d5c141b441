"""The images of an analysis' data set most similar to one, the latents that carry it, and what chance gives."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from sqlalchemy import text

from hsae.catalog import Dataset
from hsae.catalog.findings.browse.latents import labels_of_latents
from hsae.errors import UserError
from hsae.hierarchy.probes.similar_images import (
    Agreement,
    Carried,
    Relatives,
    SimilarRows,
    similar_by_activations,
    similar_by_latents,
)
from hsae.hierarchy.statistics.label_sets import Labels, checked_labels, classes_of
from hsae.pipeline.inputs.dataset_ref import DatasetRef, dataset_ref
from hsae.pipeline.inputs.labels import listed_labels
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.stages.activation_reader import Reading, open_activation_set, read_plain_rows
from hsae.pipeline.stages.latent_activations import LatentActivations
from hsae.taxonomy import InducedTaxonomy

Row = dict[str, Any]

# Of the scored data set, whose activations are others than those that trained where another data set trains.
_ACTIVATIONS = """
    SELECT s.key FROM analysis_input i JOIN activation_set own ON own.id = i.activation_set_id
    JOIN activation_set s ON s.model_id = own.model_id AND s.layer = own.layer AND s.hook = own.hook
        AND s.tokens = own.tokens AND s.dataset_id = i.dataset_id
    WHERE i.analysis_id = :analysis AND s.manifest_sha256 IS NOT NULL
    ORDER BY (s.id = own.id) DESC, s.id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, eq=False)
class OwnImage:
    """An image that is none of the data set's.

    Attributes:
        z: float32[n_latents], its latents.
        x: float32[d_model], its activations; of patch tokens their mean.
    """

    z: Float32[np.ndarray, "n_latents"]
    x: Float32[np.ndarray, "d_model"]


@dataclass(frozen=True, slots=True, eq=False)
class SimilarFound:
    """What a search finds.

    Attributes:
        rows: by latents, the most similar first: `image`, `path`, `cosine`, `synset` (its classes), `same_class`,
            `bits` and `latents`, those with the greatest `share` of the cosine, each with its label (`synset`).
        by_activations: the same search on the activations, without latents.
        summary: how both agree with the image by class, beside what random images do.
    """

    rows: tuple[Row, ...]
    by_activations: tuple[Row, ...]
    summary: Row


def row_of_image(latents: LatentActivations, image: int, dataset: str) -> int:
    """The row of an image, by its number in the listing.

    Raises:
        UserError: it has none.
    """
    (rows,) = np.nonzero(latents.images == image)
    if len(rows) == 0:
        raise UserError(
            f"{dataset} has no image {image}, or its extraction could not read it: see `hsae-admin jobs show`"
        )
    return int(rows[0])


def find_similar(
    reading: Reading,
    about: Mapping[str, Any],
    latents: LatentActivations,
    query: int | OwnImage,
    *,
    k: int,
    n_latents: int,
) -> SimilarFound:
    """Search the images of an analysis' data set.

    Args:
        reading: the catalog and the store.
        about: the analysis.
        latents: of all images.
        query: the number of an image in the listing, which is then no candidate; or another image.
        k: how many images.
        n_latents: of how many latents the share is told, the greatest first.

    Raises:
        UserError: there is no such image, no latent fires on it, or the activations are not there.
    """
    own_row: int | None = None
    if isinstance(query, OwnImage):
        asked, x = query, _activations(reading, about, latents)
    else:
        own_row = row_of_image(latents, query, about["dataset"])
        x = _activations(reading, about, latents)
        asked = OwnImage(latents.z[[own_row]].toarray()[0], x[own_row])
    near, carried = similar_by_latents(asked.z, latents.z, k, own_row=own_row)
    by_activations = similar_by_activations(asked.x, x, k, own_row=own_row)
    with reading.reading() as session:
        dataset = dataset_ref(session.get_one(Dataset, about["dataset_id"]))
        shown = sorted({latent for each in carried for latent in each.latents[:n_latents].tolist()})
        labels_of = {row["latent"]: row for row in labels_of_latents(about["id"], shown).ask(session)}
    classes = _Classes.read(reading, dataset, latents, own_row)
    return SimilarFound(
        tuple(
            row | {"latents": _latents(each, labels_of, n_latents)}
            for row, each in zip(classes.told(near), carried, strict=True)
        ),
        tuple(classes.told(by_activations)),
        classes.summary(near, by_activations),
    )


def _latents(carried: Carried, labels: Mapping[int, Row], n_latents: int) -> list[Row]:
    found = zip(carried.latents.tolist(), carried.shares.tolist(), strict=True)
    return [
        {"latent": latent, "share": share, **{name: labels[latent][name] for name in ("synset", "f1_adjusted", "q")}}
        for latent, share in list(found)[:n_latents]
    ]


def _activations(
    reading: Reading, about: Mapping[str, Any], latents: LatentActivations
) -> Float32[np.ndarray, "n_images d_model"]:
    with reading.reading() as session:
        key = session.execute(text(_ACTIVATIONS), {"analysis": about["id"]}).scalar_one_or_none()
    if key is None:
        raise UserError(
            f"the activations of {about['dataset']} in layer {about['layer']} are not stored any more, with which the"
            " search is compared: submit the same study again"
        )
    _, manifest = open_activation_set(reading, key)
    images, x = read_plain_rows(reading, manifest)
    place = np.full(1 + max(images.max(initial=0), latents.images.max(initial=0)), -1)
    place[images] = np.arange(len(images))
    rows = place[latents.images]
    if (rows < 0).any():
        raise UserError(
            f"the activations of image {int(latents.images[rows < 0][0])} of {about['dataset']} are not stored: submit"
            " the same study again"
        )
    of_images: Float32[np.ndarray, "n_images d_model"] = x[rows]
    return of_images


@dataclass(frozen=True, slots=True, eq=False)
class _Classes:
    """The images that are searched, their classes, and how those are related to the image's."""

    images: Int64[np.ndarray, "n_images"]
    paths: Sequence[str]
    labels: Labels
    taxonomy: InducedTaxonomy
    own_row: int | None
    relatives: Relatives | None

    @classmethod
    def read(cls, reading: Reading, dataset: DatasetRef, latents: LatentActivations, own_row: int | None) -> "_Classes":
        listing = read_listing(reading.store, dataset).take(latents.images)
        taxonomy = read_taxonomy(reading.store, dataset)
        labels = checked_labels(listed_labels(listing, taxonomy), len(listing), len(taxonomy.classes))
        relatives = None if own_row is None else Relatives.of(labels, taxonomy, own_row)
        paths = listing["path"].to_pylist()
        return cls(latents.images.astype(np.int64), paths, labels, taxonomy, own_row, relatives)

    def names(self, row: int) -> str:
        """The classes of an image."""
        _, classes = classes_of(self.labels, np.array([row]))
        return ", ".join(self.taxonomy.synsets[node].name for node in self.taxonomy.classes[classes].tolist())

    def told(self, found: SimilarRows) -> list[Row]:
        """A row for each image."""
        return [
            {
                "image": int(self.images[row]),
                "path": self.paths[row],
                "cosine": cosine,
                "synset": self.names(row),
                "same_class": None if self.relatives is None else bool(self.relatives.same_class[row]),
                "bits": None if self.relatives is None else float(self.relatives.bits[row]),
            }
            for row, cosine in zip(found.rows.tolist(), found.similarity.tolist(), strict=True)
        ]

    def summary(self, near: SimilarRows, by_activations: SimilarRows) -> Row:
        """How both searches agree with the image and with each other, beside random images."""
        others = np.delete(np.arange(len(self.images)), [] if self.own_row is None else [self.own_row])
        told: Row = {
            "image": None if self.own_row is None else int(self.images[self.own_row]),
            "synset": None if self.own_row is None else self.names(self.own_row),
            "n_candidates": len(others),
            "found_by_both": _share(np.isin(near.rows, by_activations.rows)),
            "found_by_both_chance": _share(np.isin(others, by_activations.rows)),
        }
        arms = {"latents": near.rows, "activations": by_activations.rows, "chance": others}
        for name, rows in arms.items():
            of_arm = None if self.relatives is None else asdict(Agreement.of(self.relatives, rows))
            told |= {f"{what}_{name}": None if of_arm is None else of_arm[what] for what in ("same_class", "bits")}
        return told


def _share(found: np.ndarray) -> float | None:
    return float(found.mean()) if len(found) else None
