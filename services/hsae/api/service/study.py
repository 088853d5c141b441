"""A study: its layers, their scores with intervals, and its analyses."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hsae.api.frames import frame, html_table
from hsae.api.service.activations import Activations, open_activations
from hsae.api.service.analysis import Analysis, open_analysis
from hsae.api.service.analysis_choice import choose_analysis
from hsae.api.service.metric_names import metric_of
from hsae.api.service.reading import StoredReader
from hsae.catalog import transaction
from hsae.catalog.findings.browse.nodes import node_across_layers
from hsae.catalog.findings.study_intervals import comparison_trends, find_comparison
from hsae.catalog.queries.analyses import analyses_of_study
from hsae.catalog.queries.jobs import list_jobs
from hsae.catalog.queries.known_names import find_nodes, study_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.exports.analysis_names import analysis_titles, describe_analyses, in_sample_analyses
from hsae.pipeline.exports.result_rows import headline_curve, layer_results
from hsae.pipeline.kinds.setting_labels import seedless_label
from hsae.report.interval_table import verdict
from hsae.sae.config import SaeConfig
from hsae.split_config import IN_SAMPLE
from hsae.vocabulary.bases import BASES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_LAYER_COLUMNS = (
    "layer", "sae", "coherence_excess", "coherence_excess_low", "coherence_excess_high", "coherence_p",
    "coherence_excess_exemplar", "coherence_excess_tree", "f1_adjusted_inner", "f1_adjusted_inner_low",
    "f1_adjusted_inner_high", "best_baseline", "f1_adjusted_inner_best_baseline", "f1_adjusted_inner_tree",
    "f1_adjusted_inner_tree_q975", "fvu", "holdout_l0", "probe_accuracy", "in_sample", "half", "analysis_id",
)  # fmt: skip
_NODE_COLUMNS = (
    "sae", "layer", "latent", "f1_adjusted", "baseline", "baseline_adjusted", "tree_adjusted", "q_node", "precision",
    "recall", "auroc", "in_sample", "half", "analysis_id",
)  # fmt: skip
_SHOWN = {
    "layer": "layer", "sae": "SAE", "coherence_excess": "coherence excess, bits", "coherence_excess_low": "from",
    "coherence_excess_high": "to", "coherence_excess_tree": "shuffled trees", "f1_adjusted_inner": "inner F1, adjusted",
    "f1_adjusted_inner_best_baseline": "best baseline", "best_baseline": "which",
    "f1_adjusted_inner_tree": "shuffled trees", "in_sample": "in-sample", "analysis_id": "analysis",
}  # fmt: skip
_TREND_COLUMNS = ("sae", "metric", "slope", "low", "high", "rises", "n_layers", "n_seeds")
_ANALYSIS_COLUMNS = ("analysis_id", "layer", "sae_kind", "title")


@dataclass(frozen=True, slots=True)
class Study:
    """A study of the catalog.

    Attributes:
        connections: the service.
        id: its number.
        name: its name.
    """

    connections: Connections
    id: int
    name: str

    def layers(self) -> "pd.DataFrame":
        """A row per layer and SAE: headline numbers with 95 % intervals, beside controls and shuffled trees.

        The columns are those of `hsae-admin results layers --json`; `<score>_<control>` is the score of a control.

        Raises:
            UserError: pandas is not installed.
        """
        with transaction(self.connections.sessions) as session:
            rows, _ = layer_results(session, AnalysisFilter(), study=self.id)
        return frame(rows, _LAYER_COLUMNS)

    def node(self, name: str, *, basis: str = "sae") -> "pd.DataFrame":
        """A node across the layers: a row per analysis with its best latent, beside what the controls reach there.

        Args:
            name: name or wnid of the node.
            basis: "sae", or a control of which the best columns are wanted.

        Raises:
            UserError: the node or the basis is unknown (it tells what there is), or pandas is missing.
        """
        if basis not in BASES:
            raise UserError(f"there is no basis {basis!r}: choose from {', '.join(BASES)}")
        with transaction(self.connections.sessions) as session:
            nodes, analyses = find_nodes(session, [name]), study_analyses(session, self.id)
            rows = [row for node in nodes for row in node_across_layers(node, analyses, basis=basis).ask(session)]
            describe_analyses(session, rows)
        return frame(rows, _NODE_COLUMNS)

    def analyses(self) -> "pd.DataFrame":
        """A row per analysis that exists already: its number, layer, SAE and activations.

        Raises:
            UserError: pandas is not installed.
        """
        with transaction(self.connections.sessions) as session:
            rows = analyses_of_study(session, self.id)
            titles = analysis_titles(session, [row["analysis_id"] for row in rows])
        return frame([row | {"title": titles[row["analysis_id"]]} for row in rows], _ANALYSIS_COLUMNS)

    def jobs(self) -> "pd.DataFrame":
        """The study's jobs as they are now, oldest first.

        Raises:
            UserError: pandas is not installed.
        """
        with transaction(self.connections.sessions) as session:
            return frame(list_jobs(session, study_id=self.id), ("id", "kind", "title", "state", "error"))

    def depth_test(self, metric: str = "coherence") -> "pd.DataFrame":
        """Whether a number rises with depth: a row per SAE with its slope per layer, interval and verdict.

        The interval deletes classes, paired over the layers. `rises` is yes, it falls, not shown, or unknown where
        there is no interval, as of purity on few classes. The coherence excess is 0 by chance at every layer, so a
        slope above 0 is structure beyond chance.

        Args:
            metric: coherence, f1, lch or purity, or a metric of docs/metrics.md such as coherence_excess_weighted.

        Raises:
            UserError: the metric is unknown, the comparison is not made yet, or pandas is not installed.
        """
        wanted = metric_of(metric)
        with transaction(self.connections.sessions) as session:
            comparison = find_comparison(session, self.id)
            trends = comparison_trends(session, comparison["id"])
        there = sorted({row["metric"] for row in trends})
        if trends and wanted not in there:
            raise UserError(f"study {self.id} has no slope of {wanted}: choose from {', '.join(there)}")
        rows = [
            {
                "sae": seedless_label(SaeConfig.parse(row["sae"])),
                "metric": wanted,
                "slope": row["slope"],
                "low": row["ci_low"],
                "high": row["ci_high"],
                "rises": verdict(row),
                "n_layers": row["n_layers"],
                "n_seeds": row["n_seeds"],
            }
            for row in trends
            if row["metric"] == wanted
        ]
        return frame(rows, _TREND_COLUMNS)

    def plot(self, metric: str = "coherence") -> "Figure":
        """A number over depth: every SAE with its interval, the best baseline, and the shuffled tree.

        The title says which numbers are in-sample, not held out.

        Args:
            metric: as for `depth_test`.

        Returns:
            A matplotlib figure, which a notebook shows.

        Raises:
            UserError: the metric is unknown, or no analysis has it yet.
        """
        # matplotlib takes half a second to load: only a picture needs it.
        from hsae.api.shown.figures import curve_figure

        wanted = metric_of(metric)
        with transaction(self.connections.sessions) as session:
            numbers = [row["analysis_id"] for row in analyses_of_study(session, self.id)]
            rows = headline_curve(session, numbers, wanted)
            mark = _in_sample_mark(in_sample_analyses(session, [row["analysis_id"] for row in rows]), rows)
        if not rows:
            raise UserError(f"study {self.id} has no {wanted} yet: wait for its jobs, or choose another metric")
        return curve_figure(rows, wanted, f"study {self.id}: {self.name}{mark}")

    def analysis(
        self, *, layer: int | None = None, sae: str | None = None, number: int | None = None, **settings: Any
    ) -> Analysis:
        """The analysis that fits.

        Args:
            layer: the 0-based block.
            sae: kind of the SAE.
            number: the analysis' own.
            settings: further settings by name, such as k=16, expansion=8, seed=1 or tokens="cls".

        Raises:
            UserError: none fits (it lists what there is), or several do (it names the ways to choose).
        """
        with transaction(self.connections.sessions) as session:
            wanted = {"number": number, "layer": layer, "kind": sae, **settings}
            found = choose_analysis(session, self.id, wanted)
        return open_analysis(self.connections, found)

    def activations(self, layer: int) -> Activations:
        """The stored activations of a layer that its SAEs were trained on; rows are read when they are asked for.

        Args:
            layer: the 0-based block.

        Raises:
            UserError: no analysis is of the layer (it lists those that there are), or its manifest is lost.
        """
        with transaction(self.connections.sessions) as session:
            rows = analyses_of_study(session, self.id)
        keys = {row["layer"]: row["activation_key"] for row in rows}
        if layer not in keys:
            there = ", ".join(map(str, keys)) or "none yet"
            raise UserError(f"study {self.id} has no analysis of layer {layer}: its layers are {there}")
        return open_activations(StoredReader(self.connections), keys[layer])

    def _repr_html_(self) -> str:
        with transaction(self.connections.sessions) as session:
            is_scored = bool(study_analyses(session, self.id))
            rows = layer_results(session, AnalysisFilter(), study=self.id)[0] if is_scored else []
        return html_table(f"Study {self.id}: {self.name}{'' if rows else ', no analysis yet'}", rows, _SHOWN)

    def __repr__(self) -> str:
        return f"<Study {self.id}: {self.name}>"


def _in_sample_mark(found: Collection[int], rows: Sequence[Mapping[str, Any]]) -> str:
    """What a title says of the drawn analyses that are in-sample."""
    if not found:
        return ""
    if len(found) == len({row["analysis_id"] for row in rows}):
        return f", {IN_SAMPLE}"
    return f", analys{'is' if len(found) == 1 else 'es'} {', '.join(map(str, sorted(found)))} {IN_SAMPLE}"
