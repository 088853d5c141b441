"""Coherence, purity and LCH excess of latents and layers, each beside what chance gives; comments on what is not."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_EARLIER = "null where undefined, and in analyses of earlier versions"
_OF_LATENT = {
    "coherence": "taxonomic coherence T_j in bits: mean Resnik similarity of two of its 16 strongest images that are of "
    f"different classes; {_EARLIER}",
    "coherence_excess": "coherence less its null mean, that of two different classes at random, in bits",
    "coherence_z": "coherence_excess in standard deviations of the coherence when classes are permuted over the tree",
    "coherence_p": "one-sided p-value of the coherence by 10,000 draws of classes; at least 1/10001; p-values of an "
    "analysis share the draws",
    "purity": "share of the pairs of its 16 strongest images that are of one class; null with fewer than two, and in "
    "analyses of earlier versions",
    "purity_excess": "purity less that of scored images at random",
    "lch_excess": "bits by which the lowest common hypernym of the classes of its 16 strongest images is smaller than "
    "that of as many classes at random (log2 of the classes under it); null unless it has 2 classes and fires on 16 "
    "images, and in analyses of earlier versions",
}
_OF_LAYER = {
    "coherence": f"mean taxonomic coherence in bits of the columns that have one; {_EARLIER}",
    "coherence_null": "its null mean: the mean similarity of two different classes at random",
    "coherence_excess": "coherence less coherence_null: 0 where columns do not follow the tree, whatever their density",
    "coherence_excess_weighted": "the same with columns weighted by the number of images on which they fire",
    "coherence_p": "one-sided p-value of the coherence by 999 permutations of the tree, classes within strata of their "
    "size; null for shuffled bases",
    "purity": f"mean purity of the columns that fire on two images or more; {_EARLIER}",
    "purity_null": "purity of scored images at random",
    "lch_excess_mean": f"mean LCH excess in bits of the eligible columns (n_lch_eligible); {_EARLIER}",
}
_COUNTS = {
    "n_coherent": "columns with a coherence: those of two classes or more",
    "n_lch_eligible": "columns with an LCH excess: those of two classes or more that fire on 16 images or more",
}
_PAPER = "the paper's; depends on how many classes and images a column has, see lch_excess_mean"
# Table, column, comment before, comment now.
_COMMENTS = (
    ("layer_score", "lch_height_mean", "mean LCH height of alive columns", f"mean LCH height of alive columns ({_PAPER})"),
    ("layer_score", "coverage_mean", "mean ontological coverage of alive columns",
     f"mean ontological coverage of alive columns ({_PAPER})"),
)  # fmt: skip
_SHOWN = ("coherence", "coherence_excess", "coherence_z", "coherence_p", "purity", "lch_excess")
"""What latent_label has of a latent."""
_VIEW = "layer_coherence"
_VIEW_COMMENT = (
    "What a layer's features know of the tree beside what chance gives, by analysis and basis; to be joined with "
    "layer_progress."
)
_ABOUT = {
    "analysis_id": "the analysis",
    "basis": "sae, or a control",
    "n_seeds": "seeds of a shuffled control, over which the scores are averaged; 1 otherwise",
}


def upgrade() -> None:
    """Apply."""
    for column, comment in _OF_LATENT.items():
        op.add_column("latent", sa.Column(column, sa.Double(), nullable=True, comment=comment))
    for column, comment in _OF_LAYER.items():
        op.add_column("layer_score", sa.Column(column, sa.Double(), nullable=True, comment=comment))
    for column, comment in _COUNTS.items():
        op.add_column("layer_score", sa.Column(column, sa.Integer(), nullable=True, comment=comment))
    for table, column, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=sa.Double(), comment=now, existing_comment=before)
    means = ", ".join(f"avg(c.{column}) AS {column}" for column in (*_OF_LAYER, *_COUNTS))
    op.execute(
        f"CREATE VIEW {_VIEW} AS SELECT c.analysis_id, c.basis, count(*) AS n_seeds, {means} "  # noqa: S608 -- ours
        "FROM layer_score c GROUP BY c.analysis_id, c.basis"
    )
    op.execute(f"COMMENT ON VIEW {_VIEW} IS {_literal(_VIEW_COMMENT)}")
    for column, comment in (_ABOUT | _OF_LAYER | _COUNTS).items():
        _comment(_VIEW, column, comment)
    shown = "".join(f", l.{column}" for column in _SHOWN)
    op.execute(f"CREATE OR REPLACE VIEW latent_label AS {_query().replace(_FROM, shown + _FROM, 1)}")
    for column in _SHOWN:
        _comment("latent_label", column, _OF_LATENT[column])


def downgrade() -> None:
    """Undo."""
    query = _query()
    for column in _SHOWN:
        query = re.sub(rf",\s+l\.{column}\b(?!_)", "", query)
    of_view = op.get_bind().scalar(sa.text("SELECT obj_description(CAST('latent_label' AS regclass))"))
    comments = {column["name"]: column["comment"] for column in sa.inspect(op.get_bind()).get_columns("latent_label")}
    op.execute("DROP VIEW latent_label")
    op.execute(f"CREATE VIEW latent_label AS {query}")
    op.execute(f"COMMENT ON VIEW latent_label IS {_literal(of_view)}")
    for column in sa.inspect(op.get_bind()).get_columns("latent_label"):
        _comment("latent_label", column["name"], comments[column["name"]])
    op.execute(f"DROP VIEW {_VIEW}")
    for table, column, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=sa.Double(), comment=before, existing_comment=now)
    for column in (*_COUNTS, *reversed(_OF_LAYER)):
        op.drop_column("layer_score", column)
    for column in reversed(_OF_LATENT):
        op.drop_column("latent", column)


_FROM = "\n   FROM "
"""Where the list of columns of a view ends, in what Postgres gives."""


def _query() -> str:
    """The query of latent_label as it is."""
    return str(op.get_bind().scalar(sa.text("SELECT pg_get_viewdef(CAST('latent_label' AS regclass))")))


def _comment(view: str, column: str, comment: str | None) -> None:
    op.execute(f"COMMENT ON COLUMN {view}.{column} IS {_literal(comment)}")


def _literal(comment: str | None) -> str:
    return "NULL" if comment is None else "'" + comment.replace("'", "''") + "'"
