"""What fires on one image: latents with labels, scores beside their nulls, and strongest images."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from hsae.api.frames import frame
from hsae.api.shown.cards import LatentCard, latent_cards
from hsae.api.shown.html import image_tag
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.split_config import IN_SAMPLE, IN_SAMPLE_MEANING

if TYPE_CHECKING:
    import pandas as pd

_SIDE = 72
_COLUMNS = {
    "latent": "latent", "activation": "activation", "synset": "label", "f1_adjusted": "adjusted F1",
    "f1_adjusted_shuffled": "by a shuffled tree", "q": "q", "coherence_excess": "coherence excess, bits",
    "text_name": "name by text",
}  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What `Analysis.explain` returns; a notebook shows it as a table with images.

    Attributes:
        rows: a row per latent, strongest first: latent, activation, its label (`synset`), adjusted F1 at the label, its
            null (`f1_adjusted_shuffled`), q, coherence excess, name by text (`text_name`, or None) and paths of its
            strongest images (`top_images`).
        cards: the latents with their pictures.
        in_sample: whether the images that are scored trained the SAE and chose the labels.
    """

    rows: tuple[Row, ...]
    cards: tuple[LatentCard, ...]
    in_sample: bool = False

    def to_pandas(self) -> "pd.DataFrame":
        """The rows as a table.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(self.rows, (*_COLUMNS, "top_images"))

    def _repr_html_(self) -> str:
        has_names = any(row["text_name"] is not None for row in self.rows)
        columns = {name: heading for name, heading in _COLUMNS.items() if has_names or name != "text_name"}
        head = "".join(f"<th>{escape(heading)}</th>" for heading in (*columns.values(), "strongest images"))
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_text(row[name]))}</td>' for name in columns)}"
            f"<td>{''.join(image_tag(image, _SIDE) for image in card.images) or escape(card.scores)}</td></tr>"
            for row, card in zip(self.rows, self.cards, strict=True)
        )
        caption = f"<caption>Scores are {IN_SAMPLE}: {IN_SAMPLE_MEANING}</caption>" if self.in_sample else ""
        return f'<table class="hsae-explanation">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    def __repr__(self) -> str:
        mark = f", scores {IN_SAMPLE}" if self.in_sample else ""
        return f"<Explanation by latents {[row['latent'] for row in self.rows]}{mark}>"


def explained(connections: Connections, about: Mapping[str, Any], z: Any, *, k: int, n: int) -> Explanation:
    """The strongest latents of one image.

    Args:
        connections: the service.
        about: the analysis.
        z: float[n_latents].
        k: how many latents at most.
        n: images of each.

    Raises:
        UserError: it is no row of this SAE's latents.
    """
    values = _row(z, int(about["n_latents"]))
    order = [latent for latent in np.argsort(-values, kind="stable")[: max(0, k)].tolist() if values[latent] > 0]
    cards = latent_cards(connections, about, order, n=n, maps=False, side=_SIDE)
    rows = tuple(
        {
            "latent": card.latent,
            "activation": float(values[card.latent]),
            **{name: card.row.get(name) for name in list(_COLUMNS)[2:]},
            "top_images": [image.path for image in card.images],
        }
        for card in cards
    )
    return Explanation(rows, cards, about["split"] is None)


def _row(z: Any, n_latents: int) -> np.ndarray:
    if isinstance(z, Tensor):
        z = z.detach().cpu().to_dense().float().numpy()
    try:
        values = np.asarray(z.toarray() if hasattr(z, "toarray") else z, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"z is no array of numbers: give one row of `encode`, [{n_latents}]") from error
    values = values[0] if values.ndim == 2 and values.shape[0] == 1 else values
    if values.shape != (n_latents,):
        raise UserError(f"z is {list(values.shape)}: give one row of `encode`, [{n_latents}]")
    if not np.isfinite(values).all():
        raise UserError("z holds NaN or infinite values: give one row of `encode`")
    return values


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
