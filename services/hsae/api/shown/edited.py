"""How a readout moves where latents of some images are edited."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from hsae.api.frames import frame
from hsae.errors import UserError
from hsae.pipeline.stages.interventions.single_images import EditedImages, ImageEditor, moved_nodes

if TYPE_CHECKING:
    import pandas as pd

_N_SHOWN = 10
_COLUMNS = ("image", "synset", "before", "after", "change", "is_class", "wnid")


@dataclass(frozen=True, slots=True, eq=False)
class Edited:
    """What `Analysis.edit` returns; a notebook shows it as a table.

    Attributes:
        nodes: names of the nodes of the data set's taxonomy.
        before: their probabilities by a probe of the last layer, unedited; a node has the sum of its classes.
        after: the same after the edit.
        latents: by edited latent what it was changed by.
        activations: of the edited latents, the greatest over an image's edited tokens, unedited.
        accuracy: share of the unedited scored images whose class the probe names.
        chance: the same of always naming the class with most of them.
        rows: a row for each image and node, by image, those that move farthest first.
    """

    nodes: tuple[str, ...]
    before: Float64[np.ndarray, "n_images n_nodes"]
    after: Float64[np.ndarray, "n_images n_nodes"]
    latents: Mapping[int, float]
    activations: Float64[np.ndarray, "n_images n_chosen"]
    accuracy: float
    chance: float
    rows: tuple[dict[str, object], ...]

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each image and node, those that move farthest first.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(self.rows, _COLUMNS)

    def node(self, name: str) -> "tuple[Float64[np.ndarray, 'n_images'], Float64[np.ndarray, 'n_images']]":
        """The probabilities of one node before and after, of every image.

        Args:
            name: of the node, such as bird.n.01.

        Raises:
            UserError: the data set has no such node.
        """
        if name not in self.nodes:
            raise UserError(f"the data set has no node {name}: see `.nodes`")
        at = self.nodes.index(name)
        return self.before[:, at], self.after[:, at]

    def _repr_html_(self) -> str:
        images = range(len(self.before))
        body = "".join(
            f"<tr><td>{row['image']}</td><td>{escape(str(row['synset']))}</td><td>{row['before']:.3f}</td>"
            f"<td>{row['after']:.3f}</td><td>{row['change']:+.3f}</td></tr>"
            for image in images
            for row in [row for row in self.rows if row["image"] == image][:_N_SHOWN]
        )
        caption = (
            f"Probabilities by a probe of the last layer: unedited it names {self.accuracy:.0%} of the scored images"
            f" right, {self.chance:.0%} by chance"
        )
        head = "".join(f"<th>{name}</th>" for name in ("image", "node", "before", "after", "change"))
        return (
            f'<table class="hsae-edited"><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table>"
        )

    def __repr__(self) -> str:
        most = ", ".join(f"{row['synset']} {row['change']:+.2f}" for row in self.rows[:3] if row["image"] == 0)
        return f"<Edited: {len(self.before)} images, latents {[*self.latents]}; image 0: {most}>"


def edited_of(editor: ImageEditor, moved: EditedImages, latents: Mapping[int, float]) -> Edited:
    """What a notebook gets of an edit."""
    rows = tuple(
        {"image": image} | row for image in range(len(moved.before)) for row in moved_nodes(editor, moved, image)
    )
    return Edited(
        nodes=tuple(synset.name for synset in editor.taxonomy.synsets),
        before=moved.before,
        after=moved.after,
        latents=dict(latents),
        activations=moved.activations,
        accuracy=editor.readout.accuracy,
        chance=editor.readout.chance,
        rows=rows,
    )
