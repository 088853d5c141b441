"""Filters as conditions of a WHERE clause: SQL with column names, and the values to bind.

Only this module knows which column belongs to a filter's field.
"""

from typing import Any

from hsae.catalog.queries.score_filter import AnalysisFilter, EdgeFilter, ScoreFilter

Row = dict[str, Any]

SUREST_FIRST = "label_q NULLS LAST, n_fire < 3, label_f1_adjusted DESC NULLS LAST, label_f1 DESC, latent"
"""The order of the rows of latent in which people look at them: a label on one or two images is often luck."""


def of_analyses(wanted: AnalysisFilter, values: Row) -> str:
    """Conditions on the analysis of a view's row.

    Args:
        wanted: the filter.
        values: values to bind are added here.

    Returns:
        Conditions on columns that `analysis_input` and the views made from it share, of the alias `v`.
    """
    return _equal(
        values,
        {"v.model": wanted.model, "v.dataset": wanted.dataset, "v.layer": wanted.layer, "v.sae_kind": wanted.sae_kind},
    ) + _one_of_analyses(wanted, values)


def of_scores(wanted: ScoreFilter, values: Row, *, node: str = "synset_id", all_rows: bool = False) -> str:
    """Conditions on the analysis, the basis and the node of a view's row; `min_f1` and `limit` are left to the query.

    The planner joins the synsets below a node last, which suits a search that ends at the first rows that fit. If all
    rows that fit are wanted, an array of these synsets lets it begin with their index.

    Args:
        wanted: the filter.
        values: values to bind are added here.
        node: the column with the id of the row's node.
        all_rows: whether all rows that fit are read, instead of the first few.

    Returns:
        Conditions on columns of the alias `v`.
    """
    where = of_analyses(wanted, values) + _equal(values, {"v.basis": wanted.basis})
    if wanted.nodes is not None:
        where += f" AND v.{node} = ANY(:nodes)"
        values["nodes"] = list(wanted.nodes)
    if wanted.under is not None:
        below = "SELECT c.descendant_id FROM hypernym_closure c WHERE c.ancestor_id = ANY(:under)"
        where += f" AND v.{node} = ANY(ARRAY({below}))" if all_rows else f" AND v.{node} IN ({below})"
        values["under"] = list(wanted.under)
    return where


def of_edges(wanted: EdgeFilter, values: Row) -> str:
    """Conditions on a row of latent_edge_label, the alias `v`; `limit` is left to the query."""
    where = of_scores(wanted, values, node="parent_label_id")
    where += _equal(values, {"v.source": wanted.source, "v.parent": wanted.parent, "v.child": wanted.child})
    if (
        wanted.min_f1 is not None and wanted.min_f1 > 0
    ):  # a latent without a label has no F1, and is a parent all the same
        where += " AND v.parent_f1 >= :min_f1 AND v.child_f1 >= :min_f1"
        values["min_f1"] = wanted.min_f1
    return where


def _one_of_analyses(wanted: AnalysisFilter, values: Row) -> str:
    if wanted.analysis_ids is None:
        return ""
    if len(wanted.analysis_ids) == 1:  # an equality reaches every table of the view, and its one partition
        return _equal(values, {"v.analysis_id": wanted.analysis_ids[0]})
    values["analyses"] = list(wanted.analysis_ids)
    return " AND v.analysis_id = ANY(:analyses)"


def _equal(values: Row, wanted: dict[str, object]) -> str:
    """Conditions that columns equal the given values; None means any value."""
    where = ""
    for column, value in wanted.items():
        if value is not None:
            name = column.replace(".", "_")
            where += f" AND {column} = :{name}"
            values[name] = value
    return where


def contains(words: str) -> str:
    """The pattern of LIKE for texts that contain the words as they are."""
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
