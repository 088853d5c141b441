"""Exact tests of nodes in place of the p- and q-values of Mann-Whitney's z; F1 corrected for the size of the node.

Those p- and q-values called nearly every node found, under shuffled labels too. They are dropped, and what was counted
from them becomes null. Analyses of earlier versions keep all else, and null in the new columns.
"""

import re
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_EARLIER = "null in analyses of earlier versions"
_NEW = {
    "latent": {
        "label_f1_adjusted": (sa.Double, f"F1 of the label, corrected for the size of the node; {_EARLIER}"),
        "label_q": (
            sa.Double,
            "q-value of the exact test of this latent at its label, corrected for the number of latents and of nodes; "
            + _EARLIER,
        ),
    },
    "node_score": {
        "f1_adjusted": (
            sa.Double,
            "F1 corrected for the size of the node: 0 for a latent that fires on every image, 1 for a perfect one; "
            "null where undefined, and in analyses of earlier versions",
        ),
        "p": (
            sa.Double,
            "exact test of this pair alone: the probability of n_both or more images if firing did not depend on the "
            "node; null where it is not above chance (n_fire * n_images over all images), and in analyses of earlier "
            "versions",
        ),
        "p_node": (
            sa.Double,
            "only where is_node_best: p-value of the node, the least p of all latents corrected for their number; "
            + _EARLIER,
        ),
        "q_node": (
            sa.Double,
            "only where is_node_best: Benjamini-Hochberg q-value of p_node over the distinct nodes of the analysis, "
            f"basis and seed; {_EARLIER}",
        ),
        "is_distinct": (
            sa.Boolean,
            "whether the node counts in layer_score: of the nodes that hold the same images it is the deepest; "
            + _EARLIER,
        ),
    },
    "layer_score": {
        "share_nodes_rarefied": (
            sa.Double,
            "expected share of nodes that some of n_rarefied columns, drawn at random, reach with an adjusted F1 >= "
            f"0.5; {_EARLIER}",
        ),
        "n_rarefied": (
            sa.BigInteger,
            f"columns that share_nodes_rarefied is for: the fewest of any basis of the analysis; {_EARLIER}",
        ),
        "best_f1_adjusted_mean": (sa.Double, f"mean over nodes of the adjusted best F1, a node below 0 counting as 0; {_EARLIER}"),
        "best_f1_adjusted_single_mean": (sa.Double, f"the same over nodes of one class; {_EARLIER}"),
        "best_f1_adjusted_pair_mean": (sa.Double, f"the same over nodes of two classes; {_EARLIER}"),
        "best_f1_adjusted_inner_mean": (
            sa.Double, f"the same over inner nodes with three or more classes; {_EARLIER}",
        ),
    },
}  # fmt: skip
_OLD_TESTS = {
    "p": "two-sided p-value of z",
    "q": "Benjamini-Hochberg q-value over all pairs of the analysis and basis",
}
# Comments that change: after, before.
_COMMENTS = {
    ("node_score", "z"): (
        "Mann-Whitney z-score with tie correction; to order pairs by, not for a test",
        "Mann-Whitney z-score with tie correction",
    ),
    ("layer_score", "n_nodes"): (
        "nodes considered: with some images but not all, one for each set of images (in analyses of earlier versions: "
        "all such nodes)",
        "taxonomy nodes considered",
    ),
    ("layer_score", "share_nodes_f1"): (
        "share of nodes whose best column has F1 >= 0.5; more columns have more chances",
        "share of nodes for which some column has F1 >= 0.5",
    ),
    ("layer_score", "share_nodes_q"): (
        f"share of nodes with q_node < 0.01, the exact test; {_EARLIER}",
        "share of nodes for which some column has q < 0.01 and AUROC > 0.5",
    ),
    ("layer_score", "by_height"): (
        "for every height of the taxonomy the nodes considered, those with F1 >= 0.5 and those with q_node < 0.01 "
        "(n_q: null in analyses of earlier versions)",
        "node counts and shares per height of the taxonomy",
    ),
}
# Columns that are appended to views: expression, comment.
_VIEWS = {
    "latent_label": {
        "f1_adjusted": ("l.label_f1_adjusted", _NEW["latent"]["label_f1_adjusted"][1]),
        "q": ("l.label_q", _NEW["latent"]["label_q"][1]),
    },
    "node_best_latent": {
        name: (f"r.{name}", _NEW["node_score"][name][1]) for name in ("f1_adjusted", "p", "p_node", "is_distinct")
    },
    "layer_progress": {
        "share_nodes_rarefied": (
            "avg(c.share_nodes_rarefied)",
            "expected share of nodes that as many columns as the smallest basis of the analysis has, drawn at random, "
            f"reach with an adjusted F1 >= 0.5; {_EARLIER}",
        ),
        "best_f1_adjusted": (
            "avg(c.best_f1_adjusted_mean)", _NEW["layer_score"]["best_f1_adjusted_mean"][1],
        ),
        "best_f1_adjusted_single": (
            "avg(c.best_f1_adjusted_single_mean)", _NEW["layer_score"]["best_f1_adjusted_single_mean"][1],
        ),
        "best_f1_adjusted_pair": (
            "avg(c.best_f1_adjusted_pair_mean)", _NEW["layer_score"]["best_f1_adjusted_pair_mean"][1],
        ),
        "best_f1_adjusted_inner": (
            "avg(c.best_f1_adjusted_inner_mean)", _NEW["layer_score"]["best_f1_adjusted_inner_mean"][1],
        ),
    },
}  # fmt: skip
_SHARE = ("share_nodes_q", "share of nodes with q_node < 0.01, the exact test; null in analyses of earlier versions",
          "share of nodes for which some column has q < 0.01 and AUROC > 0.5")  # fmt: skip


def upgrade() -> None:
    """Apply."""
    for table, columns in _NEW.items():
        for name, (kind, comment) in columns.items():
            new = f"new_{name}" if table == "node_score" and name in _OLD_TESTS else name
            op.add_column(table, sa.Column(new, kind(), nullable=True, comment=comment))
    for view in _VIEWS:
        _remake(view, lambda query, view=view: _appended(query, view))
    for name in _OLD_TESTS:
        op.drop_column("node_score", name)
    # The view reads the column by its number: it follows the new name.
    op.alter_column("node_score", "new_p", new_column_name="p")
    op.execute("ALTER VIEW node_best_latent RENAME COLUMN q TO q_node")
    _comment("node_best_latent", "q_node", _NEW["node_score"]["q_node"][1])
    _comment("layer_progress", *_SHARE[:2])
    for (table, name), (after, _) in _COMMENTS.items():
        _comment(table, name, after)
    op.execute("UPDATE layer_score SET share_nodes_q = NULL")
    op.execute(
        "UPDATE layer_score SET by_height = (SELECT coalesce(jsonb_agg(h || '{\"n_q\": null}' ORDER BY place), '[]')"
        " FROM jsonb_array_elements(by_height) WITH ORDINALITY AS heights (h, place))"
    )


def downgrade() -> None:
    """Undo; the dropped p- and q-values are null."""
    for (table, name), (_, before) in _COMMENTS.items():
        _comment(table, name, before)
    op.execute("ALTER VIEW node_best_latent RENAME COLUMN q_node TO q")
    op.alter_column("node_score", "p", new_column_name="new_p")
    for name, comment in _OLD_TESTS.items():
        op.add_column("node_score", sa.Column(name, sa.Double(), nullable=True, comment=comment))
    for view in reversed(_VIEWS):
        _remake(view, lambda query, view=view: _without(query, view))
    _comment("node_best_latent", "q", _OLD_TESTS["q"])
    _comment("layer_progress", _SHARE[0], _SHARE[2])
    for table, columns in _NEW.items():
        for name in reversed(columns):
            op.drop_column(table, f"new_{name}" if table == "node_score" and name in _OLD_TESTS else name)


def _remake(view: str, change: Callable[[str], str]) -> None:
    """Make a view anew from its query, with all comments that it had."""
    inspector, connection = sa.inspect(op.get_bind()), op.get_bind()
    comments = {column["name"]: column["comment"] for column in inspector.get_columns(view)}
    comments |= {name: comment for name, (_, comment) in _VIEWS[view].items()}
    of_view = connection.scalar(sa.text("SELECT obj_description(CAST(:view AS regclass))"), {"view": view})
    query = change(connection.scalar(sa.text("SELECT pg_get_viewdef(CAST(:view AS regclass))"), {"view": view}))
    op.execute(f"DROP VIEW {view}")
    op.execute(f"CREATE VIEW {view} AS {query}")
    op.execute(f"COMMENT ON VIEW {view} IS {_literal(of_view)}")
    for column in sa.inspect(connection).get_columns(view):
        _comment(view, column["name"], comments[column["name"]])


def _appended(query: str, view: str) -> str:
    """The query with further columns; where it had the old q, it has that of the node."""
    selected, sources = re.sub(r"\br\.q,", "r.q_node AS q,", query).split("\n   FROM ", 1)
    columns = {name: expression for name, (expression, _) in _VIEWS[view].items()}
    if view == "node_best_latent":
        columns["p"] = "r.new_p"
    further = "".join(f",\n    {expression} AS {name}" for name, expression in columns.items())
    return f"{selected}{further}\n   FROM {sources}"


def _without(query: str, view: str) -> str:
    selected, sources = query.split("\n   FROM ", 1)
    kept = [
        column
        for column in selected.split(",\n    ")
        if re.split(r"[ .]", column.strip())[-1] not in _VIEWS[view] and column.strip() != "r.new_p AS p"
    ]
    return re.sub(r"\br\.q_node AS q\b", "r.q", ",\n    ".join(kept)) + f"\n   FROM {sources}"


def _comment(relation: str, column: str, comment: str | None) -> None:
    op.execute(f"COMMENT ON COLUMN {relation}.{column} IS {_literal(comment)}")


def _literal(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"
