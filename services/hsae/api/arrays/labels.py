"""Labels of images in memory as classes of a taxonomy."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from hsae.datasets.labels import UnresolvedLabelsError, decide
from hsae.errors import UserError
from hsae.hierarchy.statistics.label_sets import Labels
from hsae.pipeline.inputs.labels import listed_labels
from hsae.taxonomy import InducedTaxonomy, Taxonomy, induce, load_taxonomy
from hsae.taxonomy.custom_tree import CustomTree

TaxonomyLike = str | Path | Taxonomy | InducedTaxonomy | Iterable[tuple[str, str]]
"""`wordnet`, the path of a tree, a taxonomy, or pairs of a child and its parent."""
LabelsLike = Sequence[str] | Sequence[Sequence[str]] | Int[np.ndarray, "n_images"]
"""A name for each image, or several; or, under an induced taxonomy, positions in its classes."""
WORDNET = "wordnet"
_LEAST_CLASSES = 3
_NAMED = 12


class Labelled(NamedTuple):
    """The labels of images as classes of the taxonomy that they induce.

    Attributes:
        labels: as `hsae.hierarchy` takes them.
        taxonomy: the classes and all their hypernyms.
        listing: one row per image with `class_id` or `class_ids`, from which splits are made.
    """

    labels: Labels
    taxonomy: InducedTaxonomy
    listing: pa.Table


def label_images(labels: Any, taxonomy: TaxonomyLike, n_images: int) -> Labelled:
    """Read the labels of images.

    Args:
        labels: see `LabelsLike`.
        taxonomy: see `TaxonomyLike`.
        n_images: how many labels there must be.

    Raises:
        UserError: there is not one label per image, labels name no node (all of them are told), or there are fewer
            than three classes.
    """
    given = listed(labels)
    if len(given) != n_images:
        raise UserError(f"there are {len(given)} labels for {n_images} images: give one label per image")
    if isinstance(taxonomy, InducedTaxonomy):
        named = _of_induced(given, taxonomy)
        induced = taxonomy
    else:
        names = _names(given)
        whole = _whole(taxonomy)
        ids = _ids(sorted({name for of_image in names for name in of_image}), whole)
        named = [tuple(sorted({ids[name] for name in of_image})) for of_image in names]
        induced = induce(whole, {class_id for of_image in named for class_id in of_image})
    n_classes = len({class_id for of_image in named for class_id in of_image})
    if n_classes < _LEAST_CLASSES:
        raise UserError(
            f"the labels are of {n_classes} classes: scores against a taxonomy need {_LEAST_CLASSES} or more"
        )
    listing = _listing(named)
    return Labelled(listed_labels(listing, induced), induced, listing)


def listed(labels: Any) -> list[Any]:
    """Labels as a list, one entry for each image.

    Raises:
        UserError: they are no list or array.
    """
    if isinstance(labels, str | bytes | Path) or not hasattr(labels, "__iter__"):
        raise UserError(f"the labels are a {type(labels).__name__}: give a list with a name for each image")
    found = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if not isinstance(found, list):
        raise UserError("the labels are a single value: give a list with a name for each image")
    return found


def _listing(named: Sequence[tuple[str, ...]]) -> pa.Table:
    """What the listing of a registered data set says of its images' classes."""
    images = pa.array(range(len(named)), pa.int32())
    if any(len(of_image) > 1 for of_image in named):
        return pa.table({"image": images, "class_ids": [list(of_image) for of_image in named]})
    return pa.table({"image": images, "class_id": [of_image[0] for of_image in named]})


def _names(given: list[Any]) -> list[tuple[str, ...]]:
    """The labels of every image as texts."""
    names = [(one,) if isinstance(one, str) else one for one in given]
    for number, of_image in enumerate(names):
        if isinstance(of_image, int | float):
            raise UserError(
                f"label {of_image!r} of image {number} is a number: give names such as dog.n.01 or n02084071, or"
                " positions under an InducedTaxonomy"
            )
        if not of_image or not all(isinstance(name, str) for name in of_image):
            raise UserError(f"the labels of image {number} are {of_image!r}: give a name, or several names")
    return [tuple(of_image) for of_image in names]


def _ids(names: Sequence[str], taxonomy: Taxonomy) -> dict[str, str]:
    """The id of every name; refuses all names without one at once."""
    decisions = decide(dict.fromkeys(names, "labels"), taxonomy, None, None)
    unresolved = [decision for decision in decisions if decision.meaning.synset is None]
    if unresolved:
        example = "names such as dog.n.01 or n02084071" if taxonomy.has_senses else "the names of its nodes"
        raise UnresolvedLabelsError(unresolved, f"{len(names)} labels", f"give {example}")
    return {decision.label: decision.meaning.synset.id for decision in decisions if decision.meaning.synset is not None}


def _of_induced(given: list[Any], taxonomy: InducedTaxonomy) -> list[tuple[str, ...]]:
    """The ids of the classes of every image, given as positions, ids or names."""
    ids = [taxonomy.synsets[node].id for node in taxonomy.classes.tolist()]
    known: dict[Any, str] = dict(enumerate(ids))
    known |= {taxonomy.synsets[node].name: ids[i] for i, node in enumerate(taxonomy.classes.tolist())}
    known |= {class_id: class_id for class_id in ids}
    named = [(one,) if isinstance(one, str | int) else tuple(one) for one in given]
    unknown = list(dict.fromkeys(str(one) for of_image in named for one in of_image if one not in known))
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise UserError(
            f"{len(unknown)} labels are no class of the taxonomy: {', '.join(unknown[:_NAMED])}{more}; give positions"
            f" 0 to {len(ids) - 1}, or names of its classes"
        )
    return [tuple(sorted({known[one] for one in of_image})) for of_image in named]


@functools.cache
def _wordnet() -> Taxonomy:
    """Loaded once, which takes a second or more: a notebook scores again and again."""
    return load_taxonomy()


def _whole(taxonomy: Any) -> Taxonomy:
    if isinstance(taxonomy, Taxonomy):
        return taxonomy
    if isinstance(taxonomy, str | Path):
        return _wordnet() if taxonomy == WORDNET else load_taxonomy(Path(taxonomy).expanduser())
    try:
        edges = [(str(child), str(parent)) for child, parent in taxonomy]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the taxonomy is a {type(taxonomy).__name__}: give wordnet, the path of a tree, or pairs (child, parent)"
        ) from error
    return CustomTree("edges", edges)
