"""Scores of the ranking, monosemanticity, pairwise LCA depth, and every association rule beside the chosen one.

Analyses of earlier versions keep NULLs; submitting the same study again makes them anew with these scores.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("node_score", "average_precision",
     "average precision of the activation for the node; null where AUROC is, and in analyses of earlier versions"),
    ("node_score", "best_f1", "greatest F1 that a firing threshold gives; null in analyses of earlier versions"),
    ("node_score", "best_threshold",
     "activation from which on the latent fires at best_f1 (z >= it); null where best_f1 is 0"),
    ("latent", "monosemanticity",
     "monosemanticity score (arXiv 2504.02821), images compared by the analysed layer's own activations; "
     "null where undefined, and in analyses of earlier versions"),
    ("latent", "lca_depth_mean",
     "mean depth of the lowest common hypernym over all pairs of its 16 strongest images; null with fewer than two, "
     "and in analyses of earlier versions"),
)  # fmt: skip


def upgrade() -> None:
    """Apply."""
    for table, column, comment in _COLUMNS:
        op.add_column(table, sa.Column(column, sa.Double(), nullable=True, comment=comment))
    op.create_table(
        "latent_place",
        sa.Column("analysis_id", sa.BigInteger(), nullable=False, comment="the analysis"),
        sa.Column("basis", sa.Text(), nullable=False, comment="sae or neuron (raw neurons split by sign)"),
        sa.Column("latent", sa.Integer(), nullable=False, comment="index in the dictionary"),
        sa.Column(
            "rule",
            sa.Text(),
            nullable=False,
            comment="topk (classes of its 16 strongest images), rate (it fires on half of the class's images) or mass "
            "(the fewest classes with 90 % of its activation)",
        ),
        sa.Column("n_associated", sa.BigInteger(), nullable=False, comment="number of associated classes K_j"),
        sa.Column(
            "lch_synset_id",
            sa.BigInteger(),
            nullable=True,
            comment="lowest common hypernym of the associated classes; null without any",
        ),
        sa.Column("lch_height", sa.SmallInteger(), nullable=True, comment="height of the LCH; 0 = one leaf class"),
        sa.Column("lch_height_relative", sa.Double(), nullable=True, comment="LCH height over the root's, 0 to 1"),
        sa.Column("lch_depth", sa.SmallInteger(), nullable=True, comment="depth of the LCH; root = 0"),
        sa.Column(
            "coverage",
            sa.Double(),
            nullable=True,
            comment="ontological coverage: share of the classes under the LCH that are associated",
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_latent_place_analysis_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["lch_synset_id"], ["synset.id"], name=op.f("fk_latent_place_lch_synset_id")),
        sa.PrimaryKeyConstraint("analysis_id", "basis", "latent", "rule", name=op.f("pk_latent_place")),
        comment="Each latent's place in the taxonomy by every association rule; analyses of earlier versions have "
        "none. The rule that the request named is in latent as well.",
    )
    op.create_index("ix_latent_place_lch_synset_id", "latent_place", ["lch_synset_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("latent_place")
    for table, column, _ in reversed(_COLUMNS):
        op.drop_column(table, column)
