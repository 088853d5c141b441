"""The images of a data set that are most similar to one, by latents."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from hsae.api.frames import frame
from hsae.api.shown.cards import ShownImage
from hsae.api.shown.html import image_tag
from hsae.api.shown.pictures import picture
from hsae.catalog import Dataset, transaction
from hsae.pipeline.connections import Connections
from hsae.pipeline.exports.neighbours.similar_images import SimilarFound
from hsae.split_config import IN_SAMPLE, IN_SAMPLE_MEANING

if TYPE_CHECKING:
    import pandas as pd

_SIDE = 96
_IMAGE = ("image", "path", "cosine", "synset", "same_class", "bits")
_LATENT = ("latent", "share", "label", "f1_adjusted", "q")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class SimilarImages:
    """What `Analysis.similar` returns; a notebook shows it as a table with images.

    Attributes:
        rows: a row for each image, the most similar first: number, path, cosine of the latents, class (`synset`),
            whether it is the image's (`same_class`), the `bits` that both classes have in common, and `latents`: those
            that carry most of the cosine, each with its `share` and label.
        by_activations: the same search by the cosine of the activations themselves, less their mean.
        summary: the share of the same class and the mean bits by latents, by activations and of random images
            (`_chance`), and the share of the images that both searches find.
        root: the folder of the images.
        in_sample: whether the images that are scored trained the SAE and chose the labels.
    """

    rows: tuple[Row, ...]
    by_activations: tuple[Row, ...]
    summary: Row
    root: str
    in_sample: bool

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each image and latent that carries its similarity.

        Raises:
            UserError: pandas is not installed.
        """
        rows = [
            {name: row[name] for name in _IMAGE} | latent | {"synset": row["synset"], "label": latent["synset"]}
            for row in self.rows
            for latent in row["latents"]
        ]
        return frame(rows, (*_IMAGE, *_LATENT))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("image", "cosine", "class", "bits", "carried by"))
        body = "".join(
            f"<tr><td>{self._image(row)}</td><td>{row['cosine']:.3f}</td><td>{escape(row['synset'])}</td>"
            f"<td>{'' if row['bits'] is None else format(row['bits'], '.2f')}</td>"
            f"<td>{'<br>'.join(map(_carrier, row['latents']))}</td></tr>"
            for row in self.rows
        )
        mark = f". Labels are {IN_SAMPLE}: {IN_SAMPLE_MEANING}" if self.in_sample else ""
        return (
            f'<table class="hsae-similar"><caption>{escape(self._agreement())}{mark}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _image(self, row: Row) -> str:
        shown = ShownImage(row["image"], row["path"], row["cosine"], *picture(self.root, row["path"], _SIDE))
        return image_tag(shown, _SIDE)

    def _agreement(self) -> str:
        told = self.summary
        both = f"{len(self.rows)} of {told['n_candidates']} images"
        if told["same_class_chance"] is None or not self.rows:
            return both
        return (
            f"{both}; of the same class: {told['same_class_latents']:.0%}, by activations"
            f" {told['same_class_activations']:.0%}, at random {told['same_class_chance']:.1%}; bits in common:"
            f" {told['bits_latents']:.2f}, by activations {told['bits_activations']:.2f}, at random"
            f" {told['bits_chance']:.2f}"
        )

    def __repr__(self) -> str:
        return f"<SimilarImages {[row['image'] for row in self.rows]}: {self._agreement()}>"


def similar_images(connections: Connections, about: Mapping[str, Any], found: SimilarFound) -> SimilarImages:
    """What a notebook gets of a search in an analysis."""
    with transaction(connections.sessions) as session:
        root = session.get_one(Dataset, about["dataset_id"]).root
    return SimilarImages(found.rows, found.by_activations, found.summary, root, about["split"] is None)


def _carrier(latent: Row) -> str:
    return f"{latent['share']:.0%} latent {latent['latent']}: {escape(latent['synset'] or 'no label')}"
