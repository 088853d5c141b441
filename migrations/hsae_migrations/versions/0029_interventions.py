"""Interventions: latents are edited, and readouts say what was lost."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "intervention_set",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False, comment="primary key"),
        sa.Column("key", sa.Text(), nullable=False, comment="sha256 over the analysis and the settings"),
        sa.Column("analysis_id", sa.BigInteger(), nullable=False, comment="the analysis whose latents are edited"),
        sa.Column("job_id", sa.BigInteger(), nullable=False, comment="the job that made it"),
        sa.Column(
            "config",
            sa.dialects.postgresql.JSONB(),
            nullable=False,
            comment="settings, as in the block intervene of a study file; format",
        ),
        sa.Column(
            "n_images", sa.Integer(), nullable=False, comment="scored images, which neither trained nor selected"
        ),
        sa.Column("n_train", sa.Integer(), nullable=False, comment="images that trained the readouts, unedited"),
        sa.Column(
            "start",
            sa.Text(),
            nullable=False,
            comment="where the passes began: stored (activations of the layer) or images (once up to the layer)",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
            comment="when the row was made",
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_intervention_set_analysis_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_intervention_set_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intervention_set")),
        sa.UniqueConstraint("key", name=op.f("uq_intervention_set_key")),
        comment="Sets of interventions: latents of an analysis are edited, and readouts say what the model lost.",
    )
    op.create_index("ix_intervention_set_analysis_id", "intervention_set", ["analysis_id"])
    op.create_table(
        "intervention_readout",
        sa.Column("intervention_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column(
            "readout",
            sa.Text(),
            nullable=False,
            comment="probe (linear), knn (nearest neighbours) or classifier (the model's own)",
        ),
        sa.Column("accuracy", sa.Double(), nullable=True, comment="share of the scored images whose class it names"),
        sa.Column(
            "accuracy_through_sae",
            sa.Double(),
            nullable=True,
            comment="the same where the SAE's reconstruction stands in the place of the edited tokens",
        ),
        sa.Column(
            "chance", sa.Double(), nullable=True, comment="the same of always naming the class with most scored images"
        ),
        sa.Column(
            "log_odds",
            sa.Double(),
            nullable=True,
            comment="mean log-odds of the images' own class; null where the readout has no probabilities",
        ),
        sa.Column("log_odds_through_sae", sa.Double(), nullable=True, comment="the same through the SAE"),
        sa.Column(
            "moved_through_sae",
            sa.Double(),
            nullable=True,
            comment="squared change of the last layer's row through the SAE, over the variance of the unedited rows",
        ),
        sa.ForeignKeyConstraint(
            ["intervention_set_id"],
            ["intervention_set.id"],
            name=op.f("fk_intervention_readout_intervention_set_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("intervention_set_id", "readout", name=op.f("pk_intervention_readout")),
        comment="Readouts of sets of interventions on unedited images, and behind x' = decode(encode(x)).",
    )
    op.create_table(
        "intervention",
        sa.Column("intervention_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column("number", sa.Integer(), nullable=False, comment="number of the edit in the set, from 0"),
        sa.Column(
            "readout",
            sa.Text(),
            nullable=False,
            comment="probe (linear), knn (nearest neighbours) or classifier (the model's own)",
        ),
        sa.Column("synset_id", sa.BigInteger(), nullable=False, comment="the target node"),
        sa.Column(
            "arm",
            sa.Text(),
            nullable=False,
            comment="latents, or a control: random (latents), neurons, probe (its direction), class_mean, leace",
        ),
        sa.Column("draw", sa.SmallInteger(), nullable=False, comment="draw of the random latents, from 0; else 0"),
        sa.Column("dose", sa.Double(), nullable=False, comment="factor of the edit; of scale, 1 changes nothing"),
        sa.Column(
            "latents", sa.dialects.postgresql.JSONB(), nullable=True, comment="the edited latents; null of other edits"
        ),
        sa.Column(
            "n_inside", sa.Integer(), nullable=False, comment="classes at or under the target with scored images"
        ),
        sa.Column("n_outside", sa.Integer(), nullable=False, comment="other classes with scored images"),
        sa.Column(
            "accuracy_inside_before",
            sa.Double(),
            nullable=True,
            comment="share of the target's images that are placed under it, unedited",
        ),
        sa.Column("accuracy_inside_after", sa.Double(), nullable=True, comment="the same after the edit"),
        sa.Column(
            "accuracy_outside_before",
            sa.Double(),
            nullable=True,
            comment="share of the other images whose class is named, unedited",
        ),
        sa.Column("accuracy_outside_after", sa.Double(), nullable=True, comment="the same after the edit"),
        sa.Column(
            "specificity", sa.Double(), nullable=True, comment="drop of the accuracy inside minus drop of that outside"
        ),
        sa.Column(
            "specificity_low",
            sa.Double(),
            nullable=True,
            comment="lower end of its 95 % t interval over classes; null with one class inside or outside",
        ),
        sa.Column("specificity_high", sa.Double(), nullable=True, comment="upper end"),
        sa.Column(
            "specificity_log_odds",
            sa.Double(),
            nullable=True,
            comment="the same of log-odds: of the target inside, of the own class outside",
        ),
        sa.Column("specificity_log_odds_low", sa.Double(), nullable=True, comment="lower end of its interval"),
        sa.Column("specificity_log_odds_high", sa.Double(), nullable=True, comment="upper end"),
        sa.Column("forgetting", sa.Double(), nullable=True, comment="share of the accuracy inside that is lost"),
        sa.Column("retention", sa.Double(), nullable=True, comment="share of the accuracy outside that is left"),
        sa.Column(
            "distance_correlation",
            sa.Double(),
            nullable=True,
            comment="Spearman correlation of distance and drop over the classes outside: below 0, near ones lose more",
        ),
        sa.Column(
            "distance_p", sa.Double(), nullable=True, comment="share of shuffled trees with a correlation as low"
        ),
        sa.Column(
            "moved_inside",
            sa.Double(),
            nullable=True,
            comment="squared change of the last layer's row on the target's images, over the variance of the unedited rows",
        ),
        sa.Column("moved_outside", sa.Double(), nullable=True, comment="the same on the other images"),
        sa.ForeignKeyConstraint(["synset_id"], ["synset.id"], name=op.f("fk_intervention_synset_id")),
        sa.ForeignKeyConstraint(
            ["intervention_set_id"],
            ["intervention_set.id"],
            name=op.f("fk_intervention_intervention_set_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("intervention_set_id", "number", "readout", name=op.f("pk_intervention")),
        comment="Edits and their figures of merit, one row for each readout. Accuracies are means over classes, with the target node as one class beside every class outside it.",
    )
    op.create_index("ix_intervention_synset_id", "intervention", ["synset_id"])
    op.create_table(
        "intervention_effect",
        sa.Column("intervention_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column("number", sa.Integer(), nullable=False, comment="the edit"),
        sa.Column(
            "readout",
            sa.Text(),
            nullable=False,
            comment="probe (linear), knn (nearest neighbours) or classifier (the model's own)",
        ),
        sa.Column("synset_id", sa.BigInteger(), nullable=False, comment="the node"),
        sa.Column(
            "distance", sa.Integer(), nullable=False, comment="edges from the target; 0 for the target and all under it"
        ),
        sa.Column("split", sa.Text(), nullable=False, comment="part of the images: score"),
        sa.Column("n_images", sa.Integer(), nullable=False, comment="scored images under the node"),
        sa.Column(
            "log_odds_before",
            sa.Double(),
            nullable=True,
            comment="mean log-odds of the node on its images; null of the root and where there are no probabilities",
        ),
        sa.Column("log_odds_after", sa.Double(), nullable=True, comment="the same after the edit"),
        sa.Column(
            "accuracy_before",
            sa.Double(),
            nullable=True,
            comment="share of its images that the readout places under it",
        ),
        sa.Column("accuracy_after", sa.Double(), nullable=True, comment="the same after the edit"),
        sa.ForeignKeyConstraint(["synset_id"], ["synset.id"], name=op.f("fk_intervention_effect_synset_id")),
        sa.ForeignKeyConstraint(
            ["intervention_set_id", "number", "readout"],
            ["intervention.intervention_set_id", "intervention.number", "intervention.readout"],
            name=op.f("fk_intervention_effect_intervention"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "intervention_set_id", "number", "readout", "synset_id", name=op.f("pk_intervention_effect")
        ),
        comment="What edits did at every node with scored images: log-odds and accuracy before and after.",
    )
    op.create_table(
        "intervention_distance",
        sa.Column("intervention_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column("number", sa.Integer(), nullable=False, comment="the edit"),
        sa.Column(
            "readout",
            sa.Text(),
            nullable=False,
            comment="probe (linear), knn (nearest neighbours) or classifier (the model's own)",
        ),
        sa.Column("distance", sa.Integer(), nullable=False, comment="edges from the target; 0 for its own classes"),
        sa.Column("n_classes", sa.Integer(), nullable=False, comment="classes there with scored images"),
        sa.Column("accuracy_drop", sa.Double(), nullable=True, comment="mean drop in accuracy over these classes"),
        sa.Column(
            "accuracy_low", sa.Double(), nullable=True, comment="lower end of its 95 % t interval; null with one class"
        ),
        sa.Column("accuracy_high", sa.Double(), nullable=True, comment="upper end"),
        sa.Column(
            "accuracy_null_low",
            sa.Double(),
            nullable=True,
            comment="2.5 % point of the drop in shuffled trees; null at distance 0",
        ),
        sa.Column("accuracy_null_high", sa.Double(), nullable=True, comment="97.5 % point"),
        sa.Column("log_odds_drop", sa.Double(), nullable=True, comment="mean drop in log-odds over these classes"),
        sa.Column("log_odds_low", sa.Double(), nullable=True, comment="lower end of its 95 % t interval"),
        sa.Column("log_odds_high", sa.Double(), nullable=True, comment="upper end"),
        sa.Column("log_odds_null_low", sa.Double(), nullable=True, comment="2.5 % point in shuffled trees"),
        sa.Column("log_odds_null_high", sa.Double(), nullable=True, comment="97.5 % point"),
        sa.ForeignKeyConstraint(
            ["intervention_set_id", "number", "readout"],
            ["intervention.intervention_set_id", "intervention.number", "intervention.readout"],
            name=op.f("fk_intervention_distance_intervention"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "intervention_set_id", "number", "readout", "distance", name=op.f("pk_intervention_distance")
        ),
        comment="Distance curves: what edits took from the classes at each distance from the target.",
    )
    op.create_table(
        "intervention_contrast",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False, comment="primary key"),
        sa.Column("intervention_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column(
            "readout",
            sa.Text(),
            nullable=False,
            comment="probe (linear), knn (nearest neighbours) or classifier (the model's own)",
        ),
        sa.Column("control", sa.Text(), nullable=False, comment="random, neurons, probe, class_mean or leace"),
        sa.Column("synset_id", sa.BigInteger(), nullable=True, comment="the target node; null: all nodes of the set"),
        sa.Column("n_nodes", sa.Integer(), nullable=False, comment="nodes that are compared"),
        sa.Column(
            "specificity_difference",
            sa.Double(),
            nullable=True,
            comment="specificity of the latents minus that of the control (mean of its draws), at the first dose",
        ),
        sa.Column(
            "specificity_p",
            sa.Double(),
            nullable=True,
            comment="sign-flip p over the nodes, two-sided; null of a single node's row",
        ),
        sa.Column(
            "equal_forgetting",
            sa.Double(),
            nullable=True,
            comment="forgetting that both reach at some dose: the smaller of their greatest",
        ),
        sa.Column(
            "cost",
            sa.Double(),
            nullable=True,
            comment="drop of the accuracy outside where the latents reach that forgetting, between doses",
        ),
        sa.Column("cost_control", sa.Double(), nullable=True, comment="the same of the control"),
        sa.Column(
            "cost_p",
            sa.Double(),
            nullable=True,
            comment="sign-flip p of the difference of the costs over the nodes; null of a single node's row",
        ),
        sa.ForeignKeyConstraint(["synset_id"], ["synset.id"], name=op.f("fk_intervention_contrast_synset_id")),
        sa.ForeignKeyConstraint(
            ["intervention_set_id"],
            ["intervention_set.id"],
            name=op.f("fk_intervention_contrast_intervention_set_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intervention_contrast")),
        comment="Latents beside their controls: a row for each node and control, and one over all nodes of a set.",
    )
    op.create_index("ix_intervention_contrast_intervention_set_id", "intervention_contrast", ["intervention_set_id"])


def downgrade() -> None:
    """Undo; the jobs go, too, because earlier versions know no such kind."""
    for table in (
        "intervention_contrast",
        "intervention_distance",
        "intervention_effect",
        "intervention",
        "intervention_readout",
        "intervention_set",
    ):
        op.drop_table(table)
    op.execute("DELETE FROM job WHERE kind = 'intervene'")
