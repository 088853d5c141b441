"""What the catalog has of a study, collected for its report."""

from dataclasses import dataclass

from hsae.catalog.queries.conditions import Row
from hsae.report.page import Drawn


@dataclass(frozen=True, slots=True)
class StudyRows:
    """What the catalog has of a study; the functions of `hsae.catalog` that give the rows describe them.

    Attributes:
        study: of `show_study`.
        analyses: of `measured_analyses` with `sae`, the SAE's name, by SAE and layer.
        single: every analysis by itself, for figures and tables.
        drawn: what figures and tables show first: the same, or the means of the halves of a cross-fitted study.
        trends: of `comparison_trends`, in the same order.
        confidence: of their intervals.
        untested: why there are no trends; empty where there are.
        nodes: of `tree_nodes`.
        latents: of `best_labelled_latents`.
        maps: of `map_rows`, of these latents and of one method for each analysis.
        edits: of `pictured_edits`, each with `taken`, of `taken_away`.
        skipped: data set, skipped and all images, of each data set with skipped ones.
        unfinished: why the study is not complete; empty where it is.
    """

    study: Row
    analyses: list[Row]
    single: Drawn
    drawn: Drawn
    trends: list[Row]
    confidence: float
    untested: str
    nodes: list[Row]
    latents: list[Row]
    maps: list[Row]
    edits: list[Row]
    skipped: list[tuple[str, int, int]]
    unfinished: str
