"""The tables of one analysis: nodes, latents, pairs of latents, and what fires on an image of the data set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from hsae.api.arrays.latents import latent_numbers
from hsae.api.frames import asked_frame, frame
from hsae.api.service.arguments import number_at_least_0, wanted_scores
from hsae.api.service.reading import losses_noted
from hsae.catalog import transaction
from hsae.catalog.findings.browse.latents import beside_labels, labels_of_latents, one_latent
from hsae.catalog.findings.browse.nodes import best_at_nodes, search_nodes
from hsae.catalog.findings.browse.pairs import PairList, pair_list
from hsae.catalog.findings.scores import latent_rows, node_rows
from hsae.catalog.findings.text.beside import NAME_COLUMNS
from hsae.catalog.queries.known_names import find_nodes
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.exports.analysis_names import describe_analyses
from hsae.pipeline.exports.neighbours.similar_images import row_of_image
from hsae.pipeline.exports.result_rows import filtered_rows
from hsae.pipeline.stages.latent_activations import LatentActivations, get_latent_activations

if TYPE_CHECKING:
    import pandas as pd

_OF_ANALYSIS = ("in_sample", "half", "layer", "sae", "analysis_id")
_LATENT_COLUMNS = (
    "latent", "synset", "f1_adjusted", "q", "coherence_excess", "coherence_p", "f1", "f1_baseline", "baseline",
    "f1_neuron", "f1_shuffled_taxonomy", "precision", "recall", "auroc", "purity", "lch", "lch_excess", "n_fire",
    "seed_stability", "stability_chance", "label_effect", "effect_low", "effect_high", "effect_chance_high", "effect_q",
    "is_used", *NAME_COLUMNS, *_OF_ANALYSIS,
)  # fmt: skip
_NODE_COLUMNS = (
    "synset", "height", "n_classes", "n_images", "latent", "f1_adjusted", "q_node", "f1", "f1_baseline", "baseline",
    "f1_neuron", "f1_shuffled_taxonomy", "precision", "recall", "auroc", *_OF_ANALYSIS,
)  # fmt: skip
_PAIR_COLUMNS = (
    "parent", "parent_label", "child", "child_label", "implication", "expected_implication", "miss_rate",
    "absorbed_share", "random_absorbed_share", "n_child", "is_confirmed", "source", *_OF_ANALYSIS,
)  # fmt: skip
_FIRING_COLUMNS = (
    "latent", "activation", "max_activation", "synset", "f1_adjusted", "q", "coherence_excess", "density",
    *_OF_ANALYSIS,
)  # fmt: skip
_FOUND_COLUMNS = (
    "synset", "words", "labels", "n_classes", "n_images", "latent", "f1_adjusted", "baseline", "baseline_adjusted",
    "tree_adjusted", "q_node",
)  # fmt: skip
_BEST = ("latent", "f1_adjusted", "baseline", "baseline_adjusted", "tree_adjusted", "q_node")
_SOURCES = ("taxonomy", "activation")
Row = dict[str, Any]


class LatentNeeds(TypedDict, total=False):
    """What `latents` asks beside what most questions ask."""

    min_f1_adjusted: float | None
    min_stability: float | None
    used: bool
    min_effect: float | None
    mapped: bool


@dataclass(frozen=True, eq=False)
class AnalysisTables:
    """The tables of an analysis. Each has the columns `in_sample` and `half`, which say on what it is scored.

    `in_sample`: the images that trained the SAE chose its latents and are scored. `half`: of images in two halves, the
    one that is scored; the study's other analysis of the same SAE scores the other half.

    Attributes:
        connections: the service.
        about: the analysis' row of the catalog, with the names of all its inputs.
    """

    connections: Connections
    about: Row

    @property
    def id(self) -> int:
        """Its number."""
        return int(self.about["id"])

    @property
    def layer(self) -> int:
        """The 0-based block."""
        return int(self.about["layer"])

    @property
    def n_latents(self) -> int:
        """Size of the dictionary."""
        return int(self.about["n_latents"])

    def nodes(
        self,
        *,
        under: str | None = None,
        min_f1: float = 0.0,
        max_q: float | None = None,
        basis: str = "sae",
        limit: int | None = None,
    ) -> "pd.DataFrame":
        """Nodes of the taxonomy with their best latents, best F1 first, beside what the controls reach at the node.

        Args:
            under: name or wnid of a node; only nodes at or below it.
            min_f1: the least F1, as it is, not adjusted.
            max_q: the greatest q-value of the node's exact test.
            basis: "sae", or a control of which the best columns are wanted.
            limit: at most so many rows.

        Raises:
            UserError: the node or basis is unknown (it tells what there is), a number is none, or pandas is missing.
        """
        given = {"basis": basis, "min_f1": min_f1, "max_q": max_q, "limit": limit}
        wanted = wanted_scores(self.connections, self.id, given, own_columns=False)
        with transaction(self.connections.sessions) as session:
            rows, _ = filtered_rows(session, node_rows, wanted, under=under)
        return asked_frame(rows, _NODE_COLUMNS, "nodes", {"under": under} | given)

    def latents(
        self,
        *,
        under: str | None = None,
        min_f1: float = 0.0,
        max_q: float | None = None,
        min_coherence: float | None = None,
        basis: str = "sae",
        limit: int | None = None,
        **further: Unpack[LatentNeeds],
    ) -> "pd.DataFrame":
        """Latents with their labels, best F1 first, each score beside its null.

        Where interventions took latents away one by one, `is_used` and `label_effect` say whether the model uses them
        for their label; `text_name` is what they are called by text where `names` gave them one. Else they are None.

        Args:
            under: name or wnid of a node; only labels at or below it.
            min_f1: the least F1 of the label, as it is, not adjusted (`min_f1_adjusted` is).
            max_q: the greatest q-value of the exact test at the label.
            min_coherence: the least coherence excess in bits; then they come by it.
            basis: "sae", or a control with columns of its own.
            limit: at most so many rows.
            further: `min_f1_adjusted` (the least adjusted F1 of the label), `min_stability` (the least cosine with the
                same latent of other seeds), `used` (True: only latents that the model was measured to use for their
                label), `min_effect` (the least effect at the label) and `mapped` (True: only those with relevancy
                maps, which `show(maps=True)` puts beside their images).

        Raises:
            UserError: the node or basis is unknown (it tells what there is), a number is none, or pandas is missing.
        """
        for name in further.keys() - LatentNeeds.__annotations__.keys():
            raise TypeError(f"latents() got an unexpected keyword argument {name!r}")
        flags = {"used": bool(further.pop("used", False)), "mapped": bool(further.pop("mapped", False))}
        given = {"basis": basis, "min_f1": min_f1, "max_q": max_q, "min_coherence": min_coherence, "limit": limit}
        wanted = wanted_scores(self.connections, self.id, given | further, own_columns=True)
        wanted = replace(wanted, used=flags["used"], mapped=flags["mapped"])
        with transaction(self.connections.sessions) as session:
            rows, _ = filtered_rows(session, latent_rows, wanted, under=under)
        return asked_frame(rows, _LATENT_COLUMNS, "latents", {"under": under} | given | further | flags)

    def latent(self, latent: int, *, basis: str = "sae") -> "pd.DataFrame":
        """All numbers of one latent, each beside its null: one row.

        Args:
            latent: its number.
            basis: "sae", or a control with columns of its own.

        Raises:
            UserError: there is no such latent or basis, or pandas is missing.
        """
        wanted_scores(self.connections, self.id, {"basis": basis}, own_columns=True)
        (number,) = latent_numbers([latent])
        with transaction(self.connections.sessions) as session:
            rows = one_latent(self.id, basis, number).ask(session)
            describe_analyses(session, rows)
        if not rows:
            raise UserError(f"analysis {self.id} has no latent {number} of the basis {basis}")
        return frame(rows, _LATENT_COLUMNS)

    def pairs(
        self,
        *,
        under: str | None = None,
        parent: int | None = None,
        child: int | None = None,
        source: str | None = None,
        confirmed: bool = False,
        basis: str = "sae",
        limit: int | None = None,
    ) -> "pd.DataFrame":
        """Parents and children among the latents, the strongest implication first, beside what chance gives.

        Args:
            under: name or wnid of a node; only pairs whose parent's label is at or below it.
            parent: the parent's number.
            child: the child's number.
            source: "taxonomy" or "activation", how a pair was found.
            confirmed: only pairs that the scored images confirm.
            basis: "sae", or a control of which the pairs are wanted.
            limit: at most so many rows.

        Raises:
            UserError: the node, source or basis is unknown (it tells what there is), a number is none, or pandas is
                missing.
        """
        given: dict[str, Any] = {"basis": basis, "limit": limit, "parent": parent, "child": child}
        wanted_scores(self.connections, self.id, {"basis": basis, "limit": limit}, own_columns=False)
        if source is not None and source not in _SOURCES:
            raise UserError(f"source is {source!r}: choose from {', '.join(_SOURCES)}")
        for name in ("parent", "child"):
            if given[name] is not None:
                (given[name],) = latent_numbers([given[name]])
        with transaction(self.connections.sessions) as session:
            above = None if under is None else find_nodes(session, [under])
            question = pair_list(
                PairList(analyses=(self.id,), source=source, under=above, confirmed=bool(confirmed), **given)
            )
            rows = question.ask(session)
            describe_analyses(session, rows)
        return frame(rows, _PAIR_COLUMNS)

    def image_latents(self, image: int, *, limit: int | None = None) -> "pd.DataFrame":
        """The latents that fire on an image of the data set, the strongest first, with their labels.

        The first call reads the activations of all images, and keeps them.

        Args:
            image: its number in the data set's listing, as `top_images` and the explorer have it.
            limit: at most so many rows.

        Raises:
            UserError: there is no such image, the extraction could not read it, or the activations are lost.
        """
        number = number_at_least_0("image", image)
        stored = self._stored_latents
        row = stored.z[[row_of_image(stored, number, self.about["dataset"])]]
        order = [place for place in np.lexsort((row.indices, -row.data)).tolist() if row.data[place] > 0]
        order = order[: None if limit is None else number_at_least_0("limit", limit)]
        firing = [(int(row.indices[place]), float(row.data[place])) for place in order]
        return frame(self._labelled(firing), _FIRING_COLUMNS)

    def search(self, words: str, *, limit: int = 100) -> "pd.DataFrame":
        """Nodes of the taxonomy whose name, words, WordNet id or class label contain a text, with their best latents.

        Args:
            words: the text; a blank counts like the underscore in names. Exact names come first, then most images.
            limit: at most so many rows.

        Raises:
            UserError: the text is empty, a number is none, or pandas is missing.
        """
        if not isinstance(words, str) or not words.strip() or "\0" in words:
            raise UserError(f"words is {words!r}: give a word, a synset's name or a class's label")
        with transaction(self.connections.sessions) as session:
            question = search_nodes(words, self.about["dataset_id"], limit=number_at_least_0("limit", limit))
            found = question.ask(session)
            nodes = best_at_nodes(self.id, [row["synset_id"] for row in found], basis="sae").ask(session)
        best = {row["synset_id"]: row for row in nodes}
        rows = [row | {name: best.get(row["synset_id"], {}).get(name) for name in _BEST} for row in found]
        return frame(rows, _FOUND_COLUMNS)

    def latent_activations(self) -> LatentActivations:
        """The stored latents of all images that were read: `z`, sparse, and the images' numbers in the listing.

        Raises:
            UserError: they are lost or damaged.
        """
        with losses_noted(self.connections):
            return get_latent_activations(self.connections.store, self.about["key"], self.about["activations_sha256"])

    @cached_property
    def _stored_latents(self) -> LatentActivations:
        return self.latent_activations()

    def _labelled(self, firing: Sequence[tuple[int, float]]) -> list[Row]:
        with transaction(self.connections.sessions) as session:
            rows = beside_labels(labels_of_latents(self.id, [latent for latent, _ in firing]).ask(session), firing)
            for row in rows:
                row["analysis_id"] = self.id
            describe_analyses(session, rows)
        return rows
