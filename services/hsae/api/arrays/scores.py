"""The scores of latents in memory: tables of latents, of nodes and of all together, each number beside its null."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64

from hsae.api.frames import frame, html_table
from hsae.hierarchy.basis_result import BasisResult
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.resampling.resampled import HEADLINES
from hsae.hierarchy.resampling.tree_shuffles import quantiles
from hsae.hierarchy.scored_activations import ImageParts
from hsae.hierarchy.scores.latent_scores import LatentTable
from hsae.hierarchy.study.estimates import JACKKNIFE
from hsae.split_config import IN_SAMPLE
from hsae.taxonomy import InducedTaxonomy
from hsae.vocabulary.bases import BASELINES

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
LATENT_COLUMNS = (
    "latent", "synset", "f1_adjusted", "f1_adjusted_shuffled", "q", "coherence_excess", "coherence_p", "f1",
    "f1_baseline", "baseline", "f1_neuron", "f1_shuffled_taxonomy", "precision", "recall", "auroc", "purity",
    "purity_excess", "lch", "lch_excess", "n_fire",
)  # fmt: skip
NODE_COLUMNS = (
    "synset", "height", "n_classes", "n_images", "latent", "f1_adjusted", "f1_adjusted_shuffled", "q_node", "f1",
    "f1_baseline", "baseline", "f1_neuron", "f1_shuffled_taxonomy", "precision", "recall", "auroc",
)  # fmt: skip
_SHOWN = {
    "metric": "number", "value": "value", "low": "from", "high": "to", "shuffled_tree": "shuffled tree",
    "shuffled_tree_q975": "97.5 % of them", "p": "p", "best_baseline": "best baseline",
    "best_baseline_value": "its value",
}  # fmt: skip
_NOT_OF_NODES = ("node", "is_node_best", "auroc_dense")  # the last is of baselines
_QUANTILE = 1.96  # of the normal distribution at 97.5 %, as the view layer_interval has it
_OF_LABEL = ("f1", "f1_adjusted", "q", "precision", "recall", "auroc")


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What `hsae.score` found. docs/metrics.md defines every number; undefined ones are None (NaN in tables).

    Attributes:
        results: of every basis the arrays of all its scores; the SAE's own comes first, then the baselines, shuffled
            labels, shuffled taxonomies.
        taxonomy: the classes and all their hypernyms: what `latent` and `node` tables number.
        scoring: threshold, controls, shuffles and seeds.
        parts: which images trained baselines, chose latents and were scored; None: all did everything.
    """

    results: tuple[BasisResult, ...]
    taxonomy: InducedTaxonomy
    scoring: ScoringConfig
    parts: ImageParts | None

    @property
    def sae(self) -> BasisResult:
        """The arrays of the latents themselves."""
        return self.results[0]

    def latents(self) -> "pd.DataFrame":
        """A row per latent that fires, best adjusted F1 first: its label, its scores, and their nulls.

        Beside the F1 at the label stand the best baseline's (`f1_baseline`), the best raw neuron's, and what the best
        latent reaches under shuffled taxonomies (`f1_shuffled_taxonomy`, adjusted `f1_adjusted_shuffled`, means over
        seeds). `q` is the exact test's; the coherence excess is 0 by chance.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(self.latent_rows(), LATENT_COLUMNS)

    def nodes(self) -> "pd.DataFrame":
        """A row per node with its best latent, best adjusted F1 first, beside what the controls reach at the node.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(self.node_rows(), NODE_COLUMNS)

    def to_pandas(self) -> "pd.DataFrame":
        """The numbers of all latents together, each with its 95 % interval, the best baseline and the shuffled tree.

        Purity has no interval where fewer than 100 classes have two images among the strongest of some latent: it would
        be too narrow.
        `shuffled_tree` is the mean over shuffled taxonomies, `shuffled_tree_q975` their 97.5 % quantile, and `p` the
        share of them that do as well.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(self.headline_rows(), ("metric", "value", "low", "high"))

    def latent_rows(self) -> list[Row]:
        """The rows of `latents`, without pandas."""
        table = self.sae.latents
        assert table is not None  # noqa: S101 -- only shuffled bases and repeats have none
        beside = self._beside_nodes()
        alive = np.flatnonzero(~table.is_dead)
        return [
            self._latent_row(table, beside, int(latent))
            for latent in alive[np.argsort(-np.nan_to_num(table.label_f1_adjusted[alive], nan=-1.0), kind="stable")]
        ]

    def _latent_row(self, table: LatentTable, beside: dict[str, list[Any]], latent: int) -> Row:
        columns = {name: values for name, values in table.columns().items() if not name.startswith(("top_", "label"))}
        row = {name: _plain(values[latent]) for name, values in columns.items()}
        label = int(table.label[latent])
        row["lch"] = self._name(int(table.lch[latent]))
        row |= {"synset": self._name(label), "wnid": None if label < 0 else self.taxonomy.synsets[label].id}
        row |= {name: _plain(getattr(table, f"label_{name}")[latent]) for name in _OF_LABEL}
        return row | {name: None if label < 0 else values[label] for name, values in beside.items()}

    def node_rows(self) -> list[Row]:
        """The rows of `nodes`, without pandas."""
        nodes, taxonomy = self.sae.nodes, self.taxonomy
        beside = self._beside_nodes()
        best = np.flatnonzero(nodes.is_node_best)
        order = best[np.argsort(-np.nan_to_num(nodes.f1_adjusted[best], nan=-1.0), kind="stable")]
        columns = {name: values for name, values in nodes.columns().items() if name not in _NOT_OF_NODES}
        rows = []
        for pair in order.tolist():
            node = int(nodes.node[pair])
            rows.append(
                {
                    "synset": taxonomy.synsets[node].name,
                    "wnid": taxonomy.synsets[node].id,
                    "height": int(taxonomy.height[node]),
                    "depth": int(taxonomy.depth[node]),
                    "n_classes": int(taxonomy.leaf_counts[node]),
                }
                | {name: _plain(values[pair]) for name, values in columns.items()}
                | {name: values[node] for name, values in beside.items()}
            )
        return rows

    def headline_rows(self) -> list[Row]:
        """The rows of `to_pandas`, without pandas."""
        return [row for metric in HEADLINES if (row := self._headline(metric)) is not None]

    def _headline(self, metric: Any) -> Row | None:
        found = self.sae.resampled
        if found is None or metric not in found.replicates:
            return None
        quantity, trees = found.replicates[metric], found.trees.get(metric)
        defined = quantity.replicates[~np.isnan(quantity.replicates)]
        reach = _QUANTILE * JACKKNIFE * float(defined.std(ddof=1)) if len(defined) > 1 else math.nan
        mean, _, _, q975 = quantiles(np.empty(0) if trees is None else trees.shuffled)
        baselines = dict(self._baselines(metric))
        best = max(baselines, key=lambda basis: baselines[basis], default=None)
        return {
            "metric": metric,
            "value": _plain(quantity.value),
            "low": _plain(quantity.value - reach),
            "high": _plain(quantity.value + reach),
            "n": quantity.n,
            "shuffled_tree": _plain(mean),
            "shuffled_tree_q975": _plain(q975),
            "p": None if trees is None else _plain(trees.p),
            "best_baseline": best,
            "best_baseline_value": None if best is None else baselines[best],
        }

    def _baselines(self, metric: Any) -> Iterator[tuple[str, float]]:
        """The number of every baseline in which it is defined; of several draws their mean."""
        for basis in BASELINES:
            values = [
                result.resampled.replicates[metric].value
                for result in self.results
                if result.basis == basis and result.resampled is not None and metric in result.resampled.replicates
            ]
            if values and not math.isnan(np.mean(values)):
                yield basis, float(np.mean(values))

    def _beside_nodes(self) -> dict[str, list[Any]]:
        """By column and node what the controls reach there; of several seeds their mean, 0 where nothing fires."""
        columns: dict[str, list[Any]] = {}
        baselines = {basis: found for basis in sorted(BASELINES) if (found := self._best_at_nodes(basis, "f1"))}
        if baselines:
            reached = np.stack([np.where(is_defined, values, -1.0) for values, is_defined in baselines.values()])
            best, greatest = reached.argmax(axis=0).tolist(), reached.max(axis=0).tolist()
            names = list(baselines)
            columns["f1_baseline"] = [None if value < 0 else value for value in greatest]
            columns["baseline"] = [None if greatest[node] < 0 else names[at] for node, at in enumerate(best)]
        for name, basis, score in (
            ("f1_neuron", "neuron", "f1"),
            ("f1_shuffled_taxonomy", "shuffled_taxonomy", "f1"),
            ("f1_adjusted_shuffled", "shuffled_taxonomy", "f1_adjusted"),
        ):
            found = self._best_at_nodes(basis, score)
            if found is not None:
                columns[name] = found[0].tolist()
        return columns

    def _best_at_nodes(
        self, basis: str, score: str
    ) -> tuple[Float64[np.ndarray, "n_nodes"], Bool[np.ndarray, "n_nodes"]] | None:
        """The score of the best column of every node, below 0 as 0, mean over seeds; and whether it is defined.

        None where the basis was not scored.
        """
        found = [result.nodes for result in self.results if result.basis == basis]
        if not found:
            return None
        total, is_defined = np.zeros(len(self.taxonomy.synsets)), np.zeros(len(self.taxonomy.synsets), np.bool_)
        for nodes in found:
            best = np.flatnonzero(nodes.is_node_best)
            values = getattr(nodes, score)[best]
            is_defined[nodes.node[best]] |= ~np.isnan(values)
            total[nodes.node[best]] += np.maximum(0.0, np.nan_to_num(values))
        return total / len(found), is_defined

    def _name(self, node: int) -> str | None:
        return None if node < 0 else self.taxonomy.synsets[node].name

    def _repr_html_(self) -> str:
        return html_table(repr(self)[1:-1], self.headline_rows(), _SHOWN)

    def __repr__(self) -> str:
        layer = self.sae.layer
        mark = f", {IN_SAMPLE}" if self.parts is None else ""
        return (
            f"<Scores of {layer.n_latents} latents on {layer.n_images} images against {len(self.taxonomy.synsets)}"
            f" nodes: coherence excess {layer.coherence_excess:.2f} bits, p {layer.coherence_p:.3f}{mark}>"
        )


def _plain(value: Any) -> Any:
    """A Python value; None for NaN."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain
