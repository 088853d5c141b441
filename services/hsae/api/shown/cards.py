"""What a gallery shows of latents: label, scores with their nulls, strongest images, relevancy maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hsae.api.shown.pictures import picture
from hsae.catalog import Dataset, transaction
from hsae.catalog.findings.maps import map_rows
from hsae.catalog.findings.scores import latent_details
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.gallery.stored_maps import PatchMap, read_maps
from hsae.relevancy.config import EXPLAINING, MAX_IMAGES
from hsae.split_config import IN_SAMPLE

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Relevancy:
    """Where in an image a latent comes from.

    Attributes:
        values: of every patch, 1 for the most relevant one.
        preprocessing: of the model, which tells which part of an image it saw.
        method: the formula.
    """

    values: PatchMap
    preprocessing: Mapping[str, Any]
    method: str


@dataclass(frozen=True, slots=True, eq=False)
class ShownImage:
    """One of a latent's strongest images.

    Attributes:
        image: its number in the data set's listing.
        path: its path there.
        activation: the latent's activation on it.
        picture: WebP; None where the image cannot be shown.
        problem: why not.
        relevancy: its map; None without one.
        no_map: why there is none, where maps are wanted.
    """

    image: int
    path: str
    activation: float
    picture: bytes | None
    problem: str | None
    relevancy: Relevancy | None = None
    no_map: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LatentCard:
    """A latent with its strongest images.

    Attributes:
        latent: its number in the dictionary.
        row: its scores, empty for a latent that never fires (`latent_details`).
        images: strongest first.
        in_sample: whether the images that are scored trained the SAE and chose the latent.
    """

    latent: int
    row: Row
    images: tuple[ShownImage, ...]
    in_sample: bool = False

    @property
    def title(self) -> str:
        """The latent and its label."""
        label = self.row.get("synset")
        return f"latent {self.latent}: {label}" if label else f"latent {self.latent}: no label"

    @property
    def scores(self) -> str:
        """Its main scores, each with its null, and whether they are in-sample."""
        n_fire = self.row.get("n_fire", 0)
        if not n_fire:
            return "it fires on no scored image"
        parts = [
            _number("adjusted F1", self.row["f1_adjusted"]),
            _number("by a shuffled tree", self.row["f1_adjusted_shuffled"]),
            _number("q", self.row["q"], ".2g"),
            _number("coherence excess", self.row["coherence_excess"], "+.2f"),
            f"fires on {n_fire} scored image{'' if n_fire == 1 else 's'}",
            f"named “{self.row['text_name']}” by text" if self.row["text_name"] is not None else "",
            IN_SAMPLE if self.in_sample else "",
        ]
        return ", ".join(part for part in parts if part)


def _number(name: str, value: float | None, form: str = ".2f") -> str:
    return "" if value is None else f"{name} {value:{form}}"


def latent_cards(
    connections: Connections, about: Mapping[str, Any], latents: Sequence[int], *, n: int, maps: bool, side: int
) -> tuple[LatentCard, ...]:
    """The cards of an analysis' latents, in their order.

    Args:
        connections: the service.
        about: the analysis.
        latents: their numbers.
        n: images of each.
        maps: whether their relevancy maps are wanted.
        side: the longest side of an image in pixels.

    Raises:
        UserError: there is no such latent, or the analysis has no maps.
    """
    wrong = [latent for latent in latents if not 0 <= latent < about["n_latents"]]
    if wrong:
        raise UserError(f"there is no latent {wrong[0]}: analysis {about['id']} has 0 to {about['n_latents'] - 1}")
    with transaction(connections.sessions) as session:
        rows = latent_details(session, about["id"], latents)
        root = session.get_one(Dataset, about["dataset_id"]).root
    found = _maps(connections, about, latents) if maps else None
    return tuple(
        LatentCard(
            latent,
            rows.get(latent, {}),
            tuple(
                ShownImage(
                    top["image"],
                    top["path"],
                    top["activation"],
                    *picture(root, top["path"], side),
                    **_map_of(found, latent, top["image"]),
                )
                for top in rows.get(latent, {}).get("top_images", [])[: max(0, min(n, MAX_IMAGES))]
            ),
            in_sample=about["split"] is None,
        )
        for latent in latents
    )


_Maps = dict[tuple[int, int], Relevancy | None]
"""By latent and image; None: the map is undefined."""
_ADVICE = "submit the same study with a greater {of} in map={{...}} (docs/maps.md), or list latents(mapped=True)"


def _map_of(found: _Maps | None, latent: int, image: int) -> dict[str, Any]:
    """The fields of `ShownImage` about an image's map; `found` is None where none is wanted."""
    if found is None:
        return {}
    if (latent, image) not in found:
        if all(mapped != latent for mapped, _ in found):
            return {"no_map": f"no relevancy map was made of this latent: {_ADVICE.format(of='latents')}"}
        return {"no_map": f"no relevancy map was made of this image: {_ADVICE.format(of='images')}"}
    relevancy = found[latent, image]
    if relevancy is None:
        return {"no_map": "the relevancy map is undefined: no value of it is above 0"}
    return {"relevancy": relevancy}


def _maps(connections: Connections, about: Mapping[str, Any], latents: Sequence[int]) -> _Maps:
    """The maps of latents.

    Raises:
        UserError: the analysis has none, of any latent.
    """
    with transaction(connections.sessions) as session:
        rows = map_rows(session, about["id"], latents, methods=EXPLAINING)
        if not rows and not map_rows(session, about["id"], methods=EXPLAINING):
            raise UserError(
                f"analysis {about['id']} has no relevancy maps: submit the same study with map={{'latents': 32}}"
                " (docs/maps.md), or leave out maps=True"
            )
    rows.sort(key=lambda row: -EXPLAINING.index(row["method"]))  # the preferred one replaces the other
    found: _Maps = {}
    for row, values in zip(rows, read_maps(connections.store, rows), strict=True):
        key = (row["latent"], row["image"])
        if values is not None:
            found[key] = Relevancy(values, row["preprocessing"], row["method"])
        else:
            found.setdefault(key, None)
    return found
