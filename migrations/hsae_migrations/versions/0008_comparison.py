"""The comparison of a study's analyses: a kind of job, and tables of quantities and differences with intervals."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KINDS = ("extract", "train", "analyze")
_METRIC = (
    "over nodes: best_f1_mean, best_f1_inner_mean (3+ classes), share_nodes_f1; over latents: lch_height_mean,"
    " coverage_mean, monosemanticity_mean, class_entropy_mean, label_f1_mean"
)
# Table, column, comment before, comment now.
_COMMENTS = (
    ("job", "kind", "extract, train or analyze", "extract, train, analyze or compare"),
    ("job", "progress_unit", "images (extract), vectors (train) or pairs of latent and node (analyze)",
     "images (extract), vectors (train), pairs of latent and node (analyze) or analyses (compare)"),
    ("latent", "monosemanticity",
     "monosemanticity score (arXiv 2504.02821), images compared by the analysed layer's own activations; "
     "null where undefined, and in analyses of earlier versions",
     "monosemanticity score (arXiv 2504.02821), images compared by the activation set whose key is in analysis.config "
     "(embeddings; without it: by the analysed layer's own); null where undefined, and in analyses of earlier versions"),
    ("analysis", "config", "scoring configuration: firing threshold, rule, control seeds",
     "scoring configuration: firing threshold, rule, control seeds, key of the embeddings, format"),
)  # fmt: skip
_TYPES = {"config": JSONB(), "monosemanticity": sa.Double()}
_INTERVAL = (
    ("ci_low", "lower bound of its interval"),
    ("ci_high", "upper bound of its interval"),
)


def upgrade() -> None:
    """Apply."""
    _set_kinds((*_KINDS, "compare"))
    for table, column, before, now in _COMMENTS:
        op.alter_column(
            table, column, existing_type=_TYPES.get(column, sa.Text()), comment=now, existing_comment=before
        )
    op.create_table(
        "comparison",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False, comment="primary key"),
        sa.Column(
            "key", sa.Text(), nullable=False, comment="content address: the analyses' keys and the configuration"
        ),
        sa.Column("job_id", sa.BigInteger(), nullable=False, comment="the job that made it"),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False, comment="the labelled images of all its analyses"),
        sa.Column(
            "config",
            JSONB(),
            nullable=False,
            comment="bootstrap: seed, n_resamples, confidence",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the row was made",
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_comparison_dataset_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_comparison_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparison")),
        sa.UniqueConstraint("key", name=op.f("uq_comparison_key")),
        comment="Comparisons, one per set of analyses: each study has one; studies of the same analyses share it.",
    )
    op.create_index("ix_comparison_job_id", "comparison", ["job_id"])
    op.create_table(
        "comparison_score",
        _to("comparison_id", "the comparison"),
        _to("analysis_id", "the analysis"),
        sa.Column(
            "basis",
            sa.Text(),
            nullable=False,
            comment="sae or a control; of a shuffled basis the mean over its seeds",
        ),
        sa.Column("metric", sa.Text(), nullable=False, comment=_METRIC),
        sa.Column("value", sa.Double(), nullable=True, comment="the mean over nodes or latents; null without any"),
        *(sa.Column(name, sa.Double(), nullable=True, comment=comment) for name, comment in _INTERVAL),
        sa.Column("n", sa.Integer(), nullable=False, comment="nodes or latents that it is the mean of"),
        *_keys_to("comparison_score", ("comparison", "comparison_id"), ("analysis", "analysis_id")),
        sa.PrimaryKeyConstraint("comparison_id", "analysis_id", "basis", "metric", name=op.f("pk_comparison_score")),
        comment="What a comparison's analyses and their controls reach, with percentile bootstrap intervals.",
    )
    op.create_index("ix_comparison_score_analysis_id", "comparison_score", ["analysis_id"])
    op.create_table(
        "comparison_difference",
        _to("comparison_id", "the comparison"),
        sa.Column("metric", sa.Text(), nullable=False, comment=_METRIC),
        _to("analysis_id", "the analysis"),
        sa.Column("basis", sa.Text(), nullable=False, comment="its basis"),
        _to("other_analysis_id", "the analysis that is subtracted"),
        sa.Column("other_basis", sa.Text(), nullable=False, comment="the basis that is subtracted"),
        sa.Column("value", sa.Double(), nullable=True, comment="the difference; null where one side has no value"),
        *(sa.Column(name, sa.Double(), nullable=True, comment=comment) for name, comment in _INTERVAL),
        sa.Column("n", sa.Integer(), nullable=False, comment="nodes, or the smaller of the two numbers of latents"),
        *_keys_to(
            "comparison_difference",
            ("comparison", "comparison_id"),
            ("analysis", "analysis_id"),
            ("analysis", "other_analysis_id"),
        ),
        sa.PrimaryKeyConstraint(
            "comparison_id",
            "metric",
            "analysis_id",
            "basis",
            "other_analysis_id",
            "other_basis",
            name=op.f("pk_comparison_difference"),
        ),
        comment="Differences with percentile bootstrap intervals: each SAE minus its controls, minus the same "
        "configuration one layer before, and minus the other SAEs of its layer. Over nodes they are paired.",
    )
    for column in ("analysis_id", "other_analysis_id"):
        op.create_index(f"ix_comparison_difference_{column}", "comparison_difference", [column])


def downgrade() -> None:
    """Undo. Comparisons can be made again from the analyses."""
    for table in ("comparison_difference", "comparison_score", "comparison"):
        op.drop_table(table)
    op.execute("DELETE FROM job WHERE kind = 'compare'")
    for table, column, before, now in reversed(_COMMENTS):
        op.alter_column(
            table, column, existing_type=_TYPES.get(column, sa.Text()), comment=before, existing_comment=now
        )
    _set_kinds(_KINDS)


def _set_kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint(op.f("ck_job_kind"), "job")
    op.create_check_constraint(op.f("ck_job_kind"), "job", "kind IN (" + ", ".join(f"'{kind}'" for kind in kinds) + ")")


def _to(column: str, comment: str) -> sa.Column[int]:
    return sa.Column(column, sa.BigInteger(), nullable=False, comment=comment)


def _keys_to(table: str, *references: tuple[str, str]) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE")
        for other, column in references
    ]
