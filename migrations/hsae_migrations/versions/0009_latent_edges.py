"""The latents' own hierarchy, class information at every level of the taxonomy, and how centroids follow its paths."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_BASIS = "sae, or a control: neuron, pca, random (raw neurons, principal and random directions, split by sign), untrained (the SAE before its training), shuffled_labels or shuffled_taxonomy (the trained SAE's latents)"
_SOURCE = "taxonomy (the best latents of a node and of its hyponym) or activation (the parent fires wherever the child does, and not the other way round)"
_LABEL_BASIS = "CASE WHEN basis LIKE 'shuffled%' THEN 'sae' ELSE basis END"
_LATENT_EDGE_LABEL = """
        SELECT m.name AS model, d.name AS dataset, s.layer, s.tokens, e.kind AS sae_kind,
               x.analysis_id, x.basis, x.seed, x.source,
               x.parent, p.label_synset_id AS parent_label_id, py.name AS parent_label, p.label_f1 AS parent_f1,
               x.child, c.label_synset_id AS child_label_id, cy.name AS child_label, c.label_f1 AS child_f1,
               pn.name AS parent_node, cn.name AS child_node, x.n_parent, x.n_child, x.n_both,
               x.implication, x.weighted_implication, x.reverse_implication, x.weighted_reverse_implication,
               x.dominance, x.hard_absorption, x.soft_absorption, x.correlation, x.is_ms_abstract
        FROM latent_edge x
        JOIN analysis a ON a.id = x.analysis_id
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
        JOIN latent p ON p.analysis_id = x.analysis_id AND p.latent = x.parent
             AND p.basis = CASE WHEN x.basis LIKE 'shuffled%' THEN 'sae' ELSE x.basis END
        JOIN latent c ON c.analysis_id = x.analysis_id AND c.latent = x.child AND c.basis = p.basis
        LEFT JOIN synset py ON py.id = p.label_synset_id
        LEFT JOIN synset cy ON cy.id = c.label_synset_id
        LEFT JOIN synset pn ON pn.id = x.parent_synset_id
        LEFT JOIN synset cn ON cn.id = x.child_synset_id
"""
_LAYER_PROGRESS = """
        SELECT m.name AS model, d.name AS dataset, s.layer, s.tokens, e.kind AS sae_kind, e.expansion,
               c.analysis_id, c.basis, count(*) AS n_seeds,
               avg(c.fvu) AS fvu, avg(c.cosine) AS cosine, avg(c.l0) AS l0, avg(c.dead_share) AS dead_share,
               avg(c.lch_height_mean) AS lch_height, avg(c.lch_height_relative_mean) AS lch_height_relative,
               avg(c.coverage_mean) AS coverage,
               avg(c.share_nodes_f1) AS share_nodes_f1, avg(c.share_nodes_q) AS share_nodes_q,
               avg(c.best_f1_mean) AS best_f1, avg(c.best_f1_inner_mean) AS best_f1_inner,
               avg(c.probe_accuracy) AS probe_accuracy{further}
        FROM layer_score c
        JOIN analysis a ON a.id = c.analysis_id
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
        GROUP BY m.name, d.name, s.layer, s.tokens, e.kind, e.expansion, c.analysis_id, c.basis
"""
_FURTHER = """, avg(c.knn_accuracy) AS knn_accuracy, avg(c.path_correlation) AS path_correlation,
               avg(c.path_correlation_shuffled) AS path_correlation_shuffled"""

_FORMER_INDEXES = {
    "ix_latent_label_synset_id": ("latent", ["label_synset_id"]),
    "ix_latent_lch_synset_id": ("latent", ["lch_synset_id"]),
    "ix_latent_basis_label_f1": ("latent", ["basis", "label_f1"]),
    "ix_node_score_synset_id_f1": ("node_score", ["synset_id", "f1"]),
}
"""As they were before there were five bases with columns of their own: most questions are of one of them."""


def upgrade() -> None:
    """Apply."""
    for name, (table, _) in _FORMER_INDEXES.items():
        op.drop_index(name, table_name=table)
    op.create_index("ix_node_score_synset_id_f1", "node_score", ["synset_id", "basis", "f1"], unique=False)
    op.create_index("ix_latent_label_synset_id", "latent", ["label_synset_id", "basis"], unique=False)
    op.create_index("ix_latent_lch_synset_id", "latent", ["lch_synset_id", "basis"], unique=False)
    op.create_index(
        "ix_latent_basis_label_f1",
        "latent",
        ["basis", "label_f1"],
        unique=False,
        postgresql_include=["analysis_id", "latent", "label_synset_id"],
    )
    op.create_table(
        "latent_edge",
        sa.Column("analysis_id", sa.BigInteger(), nullable=False, comment="the analysis"),
        sa.Column("basis", sa.Text(), nullable=False, comment=_BASIS),
        sa.Column("parent", sa.Integer(), nullable=False, comment="index of the parent in the dictionary"),
        sa.Column("child", sa.Integer(), nullable=False, comment="index of the child in the dictionary"),
        sa.Column("source", sa.Text(), nullable=False, comment=_SOURCE),
        sa.Column("seed", sa.SmallInteger(), nullable=False, comment="seed of a shuffled control; 0 otherwise"),
        sa.Column(
            "parent_synset_id",
            sa.BigInteger(),
            nullable=True,
            comment="source taxonomy: the node whose best latent the parent is",
        ),
        sa.Column(
            "child_synset_id",
            sa.BigInteger(),
            nullable=True,
            comment="source taxonomy: that node's hyponym whose best latent the child is",
        ),
        sa.Column("n_parent", sa.Integer(), nullable=False, comment="images on which the parent fires"),
        sa.Column("n_child", sa.Integer(), nullable=False, comment="images on which the child fires"),
        sa.Column("n_both", sa.Integer(), nullable=False, comment="images on which both fire"),
        sa.Column("implication", sa.Double(), nullable=True, comment="P(parent fires | child fires)"),
        sa.Column(
            "weighted_implication",
            sa.Double(),
            nullable=True,
            comment="share of the child's activation that lies on images on which the parent fires",
        ),
        sa.Column("reverse_implication", sa.Double(), nullable=True, comment="P(child fires | parent fires)"),
        sa.Column(
            "weighted_reverse_implication",
            sa.Double(),
            nullable=True,
            comment="share of the parent's activation that lies on images on which the child fires",
        ),
        sa.Column(
            "dominance",
            sa.Double(),
            nullable=True,
            comment="P(the parent is the stronger | both fire); null where they never do",
        ),
        sa.Column(
            "hard_absorption",
            sa.Double(),
            nullable=True,
            comment="1 - implication: how often the parent falls silent where the child fires",
        ),
        sa.Column(
            "soft_absorption",
            sa.Double(),
            nullable=True,
            comment="1 - dominance: how often the parent is not the stronger where both fire",
        ),
        sa.Column(
            "correlation",
            sa.Double(),
            nullable=True,
            comment="Spearman correlation of the two activations over the images on which both fire",
        ),
        sa.Column(
            "is_ms_abstract",
            sa.Boolean(),
            nullable=True,
            comment="whether the child's monosemanticity score is above the parent's",
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_latent_edge_analysis_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["child_synset_id"], ["synset.id"], name=op.f("fk_latent_edge_child_synset_id")),
        sa.ForeignKeyConstraint(["parent_synset_id"], ["synset.id"], name=op.f("fk_latent_edge_parent_synset_id")),
        sa.PrimaryKeyConstraint(
            "analysis_id", "basis", "parent", "child", "source", "seed", name=op.f("pk_latent_edge")
        ),
        comment="Pairs of latents of which one is the other's parent, found by the taxonomy or by activations alone; analyses of earlier versions have none.",
    )
    op.create_index("ix_latent_edge_child", "latent_edge", ["analysis_id", "basis", "child"], unique=False)
    op.create_index(
        "ix_latent_edge_taxonomy",
        "latent_edge",
        ["basis", sa.text("implication DESC NULLS LAST"), sa.text("n_child DESC")],
        unique=False,
        postgresql_where=sa.text("source = 'taxonomy'"),
    )
    op.create_index(
        "ix_latent_edge_implication",
        "latent_edge",
        ["basis", sa.text("implication DESC NULLS LAST"), sa.text("n_child DESC")],
        unique=False,
    )
    # Without it the planner takes the join of latent_edge_label for far more selective than it is.
    op.execute(f"CREATE STATISTICS latent_edge_label_basis ON ({_LABEL_BASIS}) FROM latent_edge")
    op.create_table(
        "latent_family",
        sa.Column("analysis_id", sa.BigInteger(), nullable=False, comment="the analysis"),
        sa.Column("basis", sa.Text(), nullable=False, comment=_BASIS),
        sa.Column("parent", sa.Integer(), nullable=False, comment="index of the parent in the dictionary"),
        sa.Column("source", sa.Text(), nullable=False, comment=_SOURCE),
        sa.Column("seed", sa.SmallInteger(), nullable=False, comment="seed of a shuffled control; 0 otherwise"),
        sa.Column("n_children", sa.Integer(), nullable=False, comment="latents directly below it"),
        sa.Column("n_parent", sa.Integer(), nullable=False, comment="images on which the parent fires"),
        sa.Column("refinement", sa.Double(), nullable=True, comment="P(any child fires | parent fires)"),
        sa.Column(
            "correlation",
            sa.Double(),
            nullable=True,
            comment="Spearman correlation of the parent's activation and its children's greatest, where the parent fires",
        ),
        sa.Column(
            "sibling_similarity",
            sa.Double(),
            nullable=True,
            comment="mean cosine of two children's decoder directions; null with one child",
        ),
        sa.Column(
            "random_similarity",
            sa.Double(),
            nullable=True,
            comment="the same of as many latents drawn at random: the mean over the draws",
        ),
        sa.Column(
            "random_share",
            sa.Double(),
            nullable=True,
            comment="share of the random draws that are at least as alike as the children",
        ),
        sa.Column(
            "ms_abstract_share",
            sa.Double(),
            nullable=True,
            comment="share of the children whose monosemanticity score is above the parent's",
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_latent_family_analysis_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("analysis_id", "basis", "parent", "source", "seed", name=op.f("pk_latent_family")),
        comment="The parents of latent_edge, each with what its children of one source are together.",
    )
    op.create_table(
        "level_score",
        sa.Column("analysis_id", sa.BigInteger(), nullable=False, comment="the analysis"),
        sa.Column(
            "level",
            sa.SmallInteger(),
            nullable=False,
            comment="depth at which the taxonomy is cut; at the greatest, classes",
        ),
        sa.Column("n_groups", sa.Integer(), nullable=False, comment="groups of classes with images"),
        sa.Column(
            "n_train", sa.Integer(), nullable=False, comment="images trained on, and the neighbours to choose from"
        ),
        sa.Column("n_test", sa.Integer(), nullable=False, comment="held-out images; the same at every level"),
        sa.Column(
            "probe_accuracy",
            sa.Double(),
            nullable=True,
            comment="share of the held-out images whose group a linear probe names",
        ),
        sa.Column(
            "probe_chance",
            sa.Double(),
            nullable=True,
            comment="the same of always naming the group with most training images",
        ),
        sa.Column("probe_l2", sa.Double(), nullable=True, comment="penalty of the probe, chosen on a part of n_train"),
        sa.Column(
            "knn_accuracy",
            sa.Double(),
            nullable=True,
            comment="share of the held-out images whose group the 20 nearest neighbours name",
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_level_score_analysis_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("analysis_id", "level", name=op.f("pk_level_score")),
        comment="Linear probe and nearest neighbours on a layer's raw activations, with the classes joined at every depth of the taxonomy; analyses of earlier versions have none.",
    )
    op.add_column(
        "layer_score",
        sa.Column(
            "knn_accuracy",
            sa.Double(),
            nullable=True,
            comment="held-out accuracy of the 20 nearest neighbours for the class, on the same activations and images; null in analyses of earlier versions",
        ),
    )
    op.add_column(
        "layer_score",
        sa.Column(
            "path_correlation",
            sa.Double(),
            nullable=True,
            comment="Spearman correlation, over pairs of classes, of their path distance in the taxonomy and the cosine distance of their centred mean activations; null in analyses of earlier versions",
        ),
    )
    op.add_column(
        "layer_score",
        sa.Column(
            "path_correlation_shuffled",
            sa.Double(),
            nullable=True,
            comment="the same with the classes shuffled over the tree, mean over seeds: the control",
        ),
    )
    op.execute(f"CREATE OR REPLACE VIEW layer_progress AS {_LAYER_PROGRESS.format(further=_FURTHER)}")
    op.execute(f"CREATE VIEW latent_edge_label AS {_LATENT_EDGE_LABEL}")
    op.execute(
        "COMMENT ON VIEW latent_edge_label IS 'Parent and child latents with their labels'' names instead of ids.'"
    )


def downgrade() -> None:
    """Undo. A view cannot lose columns, so it is made anew, and with it the reader's right to read it."""
    comment = op.get_bind().execute(sa.text("SELECT obj_description('layer_progress'::regclass)")).scalar_one()
    op.execute("DROP VIEW latent_edge_label")
    op.execute("DROP VIEW layer_progress")
    op.execute(f"CREATE VIEW layer_progress AS {_LAYER_PROGRESS.format(further='')}")
    op.execute(f"COMMENT ON VIEW layer_progress IS '{comment}'")
    op.drop_column("layer_score", "path_correlation_shuffled")
    op.drop_column("layer_score", "path_correlation")
    op.drop_column("layer_score", "knn_accuracy")
    op.drop_table("level_score")
    op.drop_table("latent_family")
    op.drop_index("ix_latent_edge_implication", table_name="latent_edge")
    op.drop_index("ix_latent_edge_taxonomy", table_name="latent_edge")
    op.drop_index("ix_latent_edge_child", table_name="latent_edge")
    op.drop_table("latent_edge")
    for name, (table, columns) in _FORMER_INDEXES.items():
        op.drop_index(name, table_name=table)
        op.create_index(name, table, columns, unique=False)
