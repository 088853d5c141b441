"""Rows of results with the names of their SAEs, as every table and every program gets them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from hsae.catalog.findings.layer_headlines import headline_intervals, shuffled_trees
from hsae.catalog.findings.scores import layer_rows
from hsae.catalog.queries.analysis_settings import analysis_settings
from hsae.catalog.queries.conditions import Row
from hsae.catalog.queries.known_names import find_nodes, require_known
from hsae.catalog.queries.scope import Scope, choose_scope
from hsae.catalog.queries.score_filter import AnalysisFilter, ScoreFilter
from hsae.catalog.queries.studies import Kept
from hsae.pipeline.exports.analysis_names import analysis_titles, describe_analyses, names_of
from hsae.report.headline_table import with_headlines
from hsae.report.layer_table import beside_controls
from hsae.vocabulary.bases import BASELINES

Filter = TypeVar("Filter", bound=ScoreFilter)


def filtered_rows(
    session: Session,
    query: Callable[[Session, Filter], list[dict[str, Any]]],
    wanted: Filter,
    *,
    study: int | str | None = None,
    nodes: Sequence[str] = (),
    under: str | None = None,
    kept: Kept = "scores",
) -> tuple[list[Row], Scope[Filter]]:
    """The rows of `query`, each with what `describe_analyses` says; and the study that they are of.

    Args:
        session: of the catalog.
        query: finds the rows that fit a filter.
        wanted: the filter, but for its study and nodes.
        study: number of a study, `all`, or None for the latest with an analysis that fits.
        nodes: names of nodes; the row's node is one of them. None of them: any node.
        under: name of a node; the row's node is at or below it.
        kept: what the latest study must have of an analysis that fits.

    Raises:
        UserError: the catalog does not have a name or number.
    """
    require_known(session, wanted)
    named = tuple(find_nodes(session, nodes)) if nodes else None
    above = tuple(find_nodes(session, [under])) if under else None
    some = None if named is None and above is None else [*(named or ()), *(above or ())]
    scope = choose_scope(session, study, replace(wanted, nodes=named, under=above), nodes=some, kept=kept)
    rows = query(session, scope.wanted)
    describe_analyses(session, rows)
    return rows, scope


def layer_results(
    session: Session, wanted: AnalysisFilter, *, study: int | str | None = None
) -> tuple[list[Row], Scope[AnalysisFilter]]:
    """Layer scores, one row per analysis, with those of the controls; and the study that they are of.

    Args:
        session: of the catalog.
        wanted: which analyses.
        study: number of a study, `all`, or None for the latest with an analysis that fits.

    Returns:
        Rows of `with_headlines` with the `title` of the analysis and what `describe_analyses` says.

    Raises:
        UserError: the catalog does not have a name or number.
    """
    require_known(session, wanted)
    scope = choose_scope(session, study, wanted)
    rows = beside_controls(layer_rows(session, scope.wanted))
    describe_analyses(session, rows)
    numbers = {row["analysis_id"] for row in rows}
    titles = analysis_titles(session, numbers)
    intervals, shuffled = headline_intervals(session, numbers), shuffled_trees(session, numbers)
    found = [with_headlines(row, intervals, shuffled) | {"title": titles[row["analysis_id"]]} for row in rows]
    return found, scope


def headline_curve(session: Session, analysis_ids: Sequence[int], metric: str) -> list[Row]:
    """One headline number of analyses, by SAE and layer, beside its nulls.

    Args:
        session: of the catalog.
        analysis_ids: the analyses.
        metric: such as coherence_excess.

    Returns:
        Rows with analysis_id, layer, the name of the SAE (`sae`) and its kind, `value`, `low` and `high` (95 %), the
        best baseline's name and value (`best_baseline`, `baseline`), mean and 97.5 % quantile under shuffled taxonomies
        (`tree`, `tree_q975`). Analyses without the number are left out.
    """
    intervals, shuffled = headline_intervals(session, analysis_ids), shuffled_trees(session, analysis_ids)
    settings = analysis_settings(session, analysis_ids)
    names = names_of(settings)
    rows = []
    for number in sorted(analysis_ids, key=lambda one: (names[one], settings[one]["layer"], one)):
        found = intervals.get((number, "sae", metric))
        if found is None or found.value is None:
            continue
        reached = {
            basis: interval.value
            for basis in BASELINES
            if (interval := intervals.get((number, basis, metric))) is not None and interval.value is not None
        }
        best = max(reached, key=lambda basis: reached[basis], default=None)
        tree = shuffled.get((number, metric))
        rows.append(
            {
                "analysis_id": number,
                "layer": settings[number]["layer"],
                "sae": names[number],
                "sae_kind": settings[number]["sae"]["kind"],
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "best_baseline": best,
                "baseline": None if best is None else reached[best],
                "tree": None if tree is None else tree.mean,
                "tree_q975": None if tree is None else tree.q975,
            }
        )
    return rows
