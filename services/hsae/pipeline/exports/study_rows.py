"""What the catalog has of a study, collected for its report."""

from dataclasses import dataclass

from hsae.catalog.findings.layer_headlines import Interval, ShuffledTree
from hsae.catalog.queries.conditions import Row


@dataclass(frozen=True, slots=True)
class StudyRows:
    """What the catalog has of a study; the functions of `hsae.catalog` that give the rows describe them.

    Attributes:
        study: of `show_study`.
        analyses: of `measured_analyses` with `sae`, the SAE's name, by SAE and layer.
        layers: of `with_headlines` with `sae`, in the same order.
        intervals: of `headline_intervals`.
        shuffled: of `shuffled_trees`.
        trends: of `comparison_trends`, in the same order.
        confidence: of their intervals.
        untested: why there are no trends; empty where there are.
        nodes: of `tree_nodes`.
        scores: of `node_null_rows`.
        latents: of `best_labelled_latents`.
        skipped: data set, skipped and all images, of each data set with skipped ones.
        unfinished: why the study is not complete; empty where it is.
    """

    study: Row
    analyses: list[Row]
    layers: list[Row]
    intervals: dict[tuple[int, str, str], Interval]
    shuffled: dict[tuple[int, str], ShuffledTree]
    trends: list[Row]
    confidence: float
    untested: str
    nodes: list[Row]
    scores: list[Row]
    latents: list[Row]
    skipped: list[tuple[str, int, int]]
    unfinished: str
