"""Edges chosen and confirmed on different images, beside chance; miss rates under their name; absorption at nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_SEED = "seed of a shuffled control; of random directions the number of the draw, of which 0 has rows in latent; else 0"
_RENAMED = {
    "latent_edge": {"hard_absorption": "miss_rate", "soft_absorption": "not_dominant_share"},
    "latent_family": {
        "sibling_similarity": "sibling_similarity_decoder",
        "random_similarity": "random_similarity_decoder",
        "random_share": "random_share_decoder",
    },
}
_ADDED = {
    "latent_edge": [
        (
            "n_parent_select",
            sa.Integer,
            "selecting images on which the parent fires; null in analyses of earlier versions",
        ),
        (
            "n_child_select",
            sa.Integer,
            "selecting images on which the child fires; null in analyses of earlier versions",
        ),
        (
            "n_both_select",
            sa.Integer,
            "selecting images on which both fire; null in analyses of earlier versions",
        ),
        (
            "expected_implication",
            sa.Double,
            "implication of a child that fires on random images: the parent's density; null in analyses of earlier versions",
        ),
        (
            "adjusted_implication",
            sa.Double,
            "(implication - expected) / (1 - expected): 0 by chance, at most 1; null in analyses of earlier versions",
        ),
        (
            "implication_p",
            sa.Double,
            "hypergeometric P(at least n_both by chance) of this pair alone, not corrected for the number of pairs; null in analyses of earlier versions",
        ),
        (
            "is_confirmed",
            sa.Boolean,
            "whether the child fires on at least 20 scored images, and what chose the pair holds on them as well; null in analyses of earlier versions",
        ),
    ],
    "latent_family": [
        (
            "n_confirmed",
            sa.Integer,
            "children whose edges are confirmed; null in analyses of earlier versions",
        ),
        (
            "n_any_child",
            sa.Integer,
            "scored images on which any child fires; null in analyses of earlier versions",
        ),
        (
            "sibling_similarity_images",
            sa.Double,
            "mean cosine of two children's mean images, seen from the mean of all; null with one child, and in analyses of earlier versions",
        ),
        (
            "random_similarity_images",
            sa.Double,
            "the same of as many latents that fire as often: the mean over random draws; null in analyses of earlier versions",
        ),
        (
            "random_share_images",
            sa.Double,
            "share of the random draws that are at least as alike as the children; null in analyses of earlier versions",
        ),
    ],
}
_COMMENTS = {
    "latent_edge": {
        "n_parent": (
            "images on which the parent fires",
            "scored images on which the parent fires",
        ),
        "n_child": (
            "images on which the child fires",
            "scored images on which the child fires",
        ),
        "n_both": (
            "images on which both fire",
            "scored images on which both fire",
        ),
        "miss_rate": (
            "1 - implication: how often the parent falls silent where the child fires",
            "1 - implication: how often the parent does not fire where the child does",
        ),
    },
    "latent_family": {
        "n_parent": (
            "images on which the parent fires",
            "scored images on which the parent fires",
        ),
        "correlation": (
            "Spearman correlation of the parent's activation and its children's greatest, where the parent fires",
            "Spearman correlation of the parent's activation (0 where it is silent) and its children's greatest, where any child fires; in analyses of earlier versions (n_any_child null): where the parent fires",
        ),
        "random_similarity_decoder": (
            "the same of as many latents drawn at random: the mean over the draws",
            "the same of as many latents that fire as often: the mean over random draws; in analyses of earlier versions (n_any_child null): of latents of any density",
        ),
        "random_share_decoder": (
            "share of the random draws that are at least as alike as the children",
            "share of the random draws that are at least as alike as the children; in analyses of earlier versions (n_any_child null): of latents of any density",
        ),
    },
}
"""Of every column whose comment changes: what it was, and what it is."""

_LATENT_EDGE_LABEL = """
        SELECT i.model, i.dataset, i.layer, i.tokens, i.sae_kind,
               x.analysis_id, x.basis, x.seed, x.source,
               x.parent, p.label_synset_id AS parent_label_id, py.name AS parent_label, p.label_f1 AS parent_f1,
               x.child, c.label_synset_id AS child_label_id, cy.name AS child_label, c.label_f1 AS child_f1,
               pn.name AS parent_node, cn.name AS child_node, x.n_parent, x.n_child, x.n_both,
               x.implication, x.weighted_implication, x.reverse_implication, x.weighted_reverse_implication,
               x.dominance, {absorption}, x.correlation, x.is_ms_abstract{further}
        FROM latent_edge x
        JOIN analysis_input i ON i.analysis_id = x.analysis_id
        JOIN latent p ON p.analysis_id = x.analysis_id AND p.latent = x.parent
             AND p.basis = CASE WHEN x.basis LIKE 'shuffled%' THEN 'sae' ELSE x.basis END
        JOIN latent c ON c.analysis_id = x.analysis_id AND c.latent = x.child AND c.basis = p.basis
        LEFT JOIN synset py ON py.id = p.label_synset_id
        LEFT JOIN synset cy ON cy.id = c.label_synset_id
        LEFT JOIN synset pn ON pn.id = x.parent_synset_id
        LEFT JOIN synset cn ON cn.id = x.child_synset_id
"""
_FURTHER = """,
               x.expected_implication, x.adjusted_implication, x.implication_p,
               x.n_parent_select, x.n_child_select, x.n_both_select, x.is_confirmed"""
_NEW_VIEW = {"absorption": "x.miss_rate, x.not_dominant_share", "further": _FURTHER}
_FORMER_VIEW = {"absorption": "x.hard_absorption, x.soft_absorption", "further": ""}
_VIEW_COMMENT = "Parent and child latents with their labels' names instead of ids."


def upgrade() -> None:
    """Apply. A view keeps its columns when those that it reads are renamed, so it is renamed with them."""
    for table, names in _RENAMED.items():
        for former, name in names.items():
            op.alter_column(table, former, new_column_name=name)
    for former, name in _RENAMED["latent_edge"].items():
        op.execute(f"ALTER TABLE latent_edge_label RENAME COLUMN {former} TO {name}")
    for table, columns in _ADDED.items():
        for name, kind, comment in columns:
            op.add_column(table, sa.Column(name, kind(), nullable=True, comment=comment))
    for table, comments in _COMMENTS.items():
        for name, (_, comment) in comments.items():
            _comment(table, name, comment)
    op.execute(f"CREATE OR REPLACE VIEW latent_edge_label AS {_LATENT_EDGE_LABEL.format(**_NEW_VIEW)}")
    of_edges = {name: comment for name, _, comment in _ADDED["latent_edge"]}
    of_edges |= {name: comment for name, (_, comment) in _COMMENTS["latent_edge"].items()}
    for name, comment in of_edges.items():
        _comment("latent_edge_label", name, comment)
    op.create_table(
        "node_absorption",
        sa.Column("analysis_id", sa.BigInteger(), nullable=False, comment="the analysis"),
        sa.Column("basis", sa.Text(), nullable=False, comment="sae or shuffled_taxonomy"),
        sa.Column("synset_id", sa.BigInteger(), nullable=False, comment="the node"),
        sa.Column("seed", sa.SmallInteger(), nullable=False, comment=_SEED),
        sa.Column("latent", sa.Integer(), nullable=False, comment="the node's best latent, the parent"),
        sa.Column("n_images", sa.Integer(), nullable=False, comment="scored images under the node"),
        sa.Column("latent_f1", sa.Double(), nullable=True, comment="F1 of the latent at the node"),
        sa.Column(
            "direction_threshold",
            sa.Double(),
            nullable=True,
            comment="projection from which on the direction counts as present",
        ),
        sa.Column(
            "direction_f1_select",
            sa.Double(),
            nullable=True,
            comment="F1 of that threshold for the node on the selecting images, the best of any threshold",
        ),
        sa.Column("direction_f1", sa.Double(), nullable=True, comment="its F1 on the scored images"),
        sa.Column(
            "n_present",
            sa.Integer(),
            nullable=False,
            comment="scored images under the node on which the direction is present",
        ),
        sa.Column("n_silent", sa.Integer(), nullable=False, comment="those of n_present on which the parent is silent"),
        sa.Column(
            "n_absorbed",
            sa.Integer(),
            nullable=False,
            comment="those of n_silent on which another latent carries the direction",
        ),
        sa.Column("silent_share", sa.Double(), nullable=True, comment="n_silent / n_present; null without any"),
        sa.Column("absorbed_share", sa.Double(), nullable=True, comment="n_absorbed / n_present; null without any"),
        sa.Column(
            "random_absorbed_share",
            sa.Double(),
            nullable=True,
            comment="the same, but asked of random directions whether a latent carries them: their mean",
        ),
        sa.Column(
            "carrier",
            sa.Integer(),
            nullable=True,
            comment="the latent that carries the direction on most absorbed images; null without any",
        ),
        sa.Column("n_carrier", sa.Integer(), nullable=False, comment="absorbed images on which that latent does"),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_node_absorption_analysis_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["synset_id"], ["synset.id"], name=op.f("fk_node_absorption_synset_id")),
        sa.PrimaryKeyConstraint("analysis_id", "basis", "synset_id", "seed", name=op.f("pk_node_absorption")),
        comment="Absorption after arXiv 2409.14507 at inner nodes: the node's direction is there, its best latent is silent, and another latent carries the direction. For the bases sae and shuffled_taxonomy, of one token per image; analyses of earlier versions have none.",
    )


def downgrade() -> None:
    """Undo. A view cannot lose columns, so it is made anew, with its comments."""
    op.drop_table("node_absorption")
    inspector = sa.inspect(op.get_bind())
    comments = {column["name"]: column["comment"] for column in inspector.get_columns("latent_edge_label")}
    op.execute("DROP VIEW latent_edge_label")
    for table, changed in _COMMENTS.items():
        for name, (former, _) in changed.items():
            _comment(table, name, former)
    for table, columns in _ADDED.items():
        for name, _, _ in columns:
            op.drop_column(table, name)
    for table, names in _RENAMED.items():
        for former, name in names.items():
            op.alter_column(table, name, new_column_name=former)
    op.execute(f"CREATE VIEW latent_edge_label AS {_LATENT_EDGE_LABEL.format(**_FORMER_VIEW)}")
    op.execute(f"COMMENT ON VIEW latent_edge_label IS {_literal(_VIEW_COMMENT)}")
    comments |= {name: former for name, (former, _) in _COMMENTS["latent_edge"].items()}
    former_names = {name: former for former, name in _RENAMED["latent_edge"].items()}
    added = {name for name, _, _ in _ADDED["latent_edge"]}
    for name, comment in comments.items():
        if name not in added:
            _comment("latent_edge_label", former_names.get(name, name), comment)


def _comment(relation: str, column: str, comment: str) -> None:
    op.execute(f"COMMENT ON COLUMN {relation}.{column} IS {_literal(comment)}")


def _literal(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"
