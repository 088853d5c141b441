"""Headline numbers with classes deleted and with shuffled taxonomies; comparisons by replicate, over several seeds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_HEADLINE = (
    "coherence_excess and coherence_excess_weighted (bits), f1_adjusted_inner_mean (distinct nodes of 3+ classes),"
    " f1_adjusted_mean (distinct nodes), purity_mean, lch_excess_mean (bits)"
)
_METRIC_BEFORE = (
    "over nodes: best_f1_mean, best_f1_inner_mean (3+ classes), share_nodes_f1; over latents: lch_height_mean,"
    " coverage_mean, monosemanticity_mean, class_entropy_mean, label_f1_mean"
)
_METRIC = (
    f"{_HEADLINE}; of earlier versions best_f1_mean, best_f1_inner_mean, share_nodes_f1, lch_height_mean, coverage_mean,"
    " monosemanticity_mean, class_entropy_mean, label_f1_mean"
)
_FIRST = "the analysis; of several seeds of one SAE configuration that of the smallest seed"
_N_SEEDS = "seeds of the SAE that it is the mean of; null in comparisons of earlier versions"
_BASIS = (
    "sae, or a control at the densities of its latents: exemplar, kmeans, pca, random, neuron, untrained (baselines) or "
    "class_mean (supervised: a ceiling, not a baseline), or shuffled_labels or shuffled_taxonomy (the trained SAE's "
    "latents)"
)
_SEED = "seed of a shuffled control; of random directions the number of the draw, of which 0 has rows in latent; else 0"
# Table, column, type, nullable, comment before, comment now.
_COMMENTS = (
    ("comparison", "config", JSONB(), "bootstrap: seed, n_resamples, confidence",
     "confidence of the intervals, format; of earlier versions the bootstrap: seed, n_resamples, confidence"),
    ("comparison_score", "metric", sa.Text(), _METRIC_BEFORE, _METRIC),
    ("comparison_score", "analysis_id", sa.BigInteger(), "the analysis", _FIRST),
    ("comparison_difference", "metric", sa.Text(), _METRIC_BEFORE, _METRIC),
    ("comparison_difference", "n", sa.Integer(), "nodes, or the smaller of the two numbers of latents",
     "nodes or latents; the smaller of the two numbers"),
)  # fmt: skip
# Table, comment before, comment now.
_TABLE_COMMENTS = (
    ("comparison_score", "What a comparison's analyses and their controls reach, with percentile bootstrap intervals.",
     "What a comparison's analyses and their controls reach, with intervals."),
    ("comparison_difference",
     "Differences with percentile bootstrap intervals: each SAE minus its controls, minus the same "
     "configuration one layer before, and minus the other SAEs of its layer. Over nodes they are paired.",
     "Differences with intervals: each SAE minus its controls, minus the same "
     "configuration one layer before, and minus the other SAEs of its layer. They are paired by replicate."),
)  # fmt: skip
_INTERVAL = """
    SELECT v.analysis_id, v.basis, v.seed, v.metric, v.value, v.n, 2 * s.sd AS se,
           v.value - 1.96 * 2 * s.sd AS low, v.value + 1.96 * 2 * s.sd AS high, s.n_replicates
    FROM layer_replicate v
    CROSS JOIN LATERAL (
        SELECT stddev_samp(one) AS sd, count(one)::integer AS n_replicates FROM unnest(v.replicates) AS one
    ) s
"""
_INTERVAL_COLUMNS = {
    "analysis_id": "the analysis",
    "basis": _BASIS,
    "seed": _SEED,
    "metric": _HEADLINE,
    "value": "with all classes; null where undefined",
    "n": "nodes or latents that it is the mean of",
    "se": "standard error: twice the standard deviation of the replicates, each without a fifth of the classes",
    "low": "lower bound of the 95 % interval: value - 1.96 se",
    "high": "upper bound of the 95 % interval: value + 1.96 se",
    "n_replicates": "replicates in which it is defined",
}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "layer_replicate",
        _to("analysis_id", "the analysis"),
        _text("basis", _BASIS),
        sa.Column("seed", sa.SmallInteger(), nullable=False, comment=_SEED),
        _text("metric", _HEADLINE),
        _double("value", "with all classes; null where undefined"),
        sa.Column("n", sa.Integer(), nullable=False, comment="nodes or latents that it is the mean of"),
        sa.Column(
            "replicates",
            ARRAY(sa.Double()),
            nullable=False,
            comment="its value in every replicate, null where undefined; empty if none were asked for",
        ),
        *_keys("layer_replicate", ("analysis_id",), ("basis", "seed", "metric")),
        comment="Headline numbers of every basis with their values when a fifth of the classes is deleted; the "
        "classes of a replicate are the same for all analyses of one set of classes and seed, so that differences "
        "are paired. Analyses of earlier versions have none. The view layer_interval has the intervals.",
    )
    op.create_table(
        "layer_tree_shuffle",
        _to("analysis_id", "the analysis"),
        _text("basis", "sae"),
        _text("metric", f"{_HEADLINE}, and the paper's lch_height_mean and coverage_mean; not purity_mean"),
        _double("value", "with the taxonomy as it is; null where undefined"),
        sa.Column("n_shuffles", sa.Integer(), nullable=False, comment="number of permutations"),
        _double("mean", "mean over the permutations"),
        _double("sd", "standard deviation over the permutations"),
        _double("q025", "2.5 % quantile of the permutations"),
        _double("q975", "97.5 % quantile of the permutations"),
        _double(
            "p",
            "(1 + permutations that follow the tree at least as well) / (1 + n_shuffles); a smaller lch_height_mean "
            "and a greater value of any other number follow it better",
        ),
        *_keys("layer_tree_shuffle", ("analysis_id",), ("basis", "metric")),
        comment="Headline numbers of the SAE under permutations of the classes over the tree: what a tree "
        "without meaning gives. Analyses of earlier versions have none.",
    )
    _comparisons()
    op.execute(f"CREATE VIEW layer_interval AS {_INTERVAL}")
    op.execute(
        "COMMENT ON VIEW layer_interval IS 'Headline numbers of every basis with 95 % intervals by deleting a fifth of "
        "the classes.'"
    )
    for column, comment in _INTERVAL_COLUMNS.items():
        literal = comment.replace("'", "''")
        op.execute(f"COMMENT ON COLUMN layer_interval.{column} IS '{literal}'")


def _comparisons() -> None:
    for table in ("comparison_score", "comparison_difference"):
        op.add_column(table, sa.Column("n_seeds", sa.SmallInteger(), nullable=True, comment=_N_SEEDS))
    for table, column, kind, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=kind, comment=now, existing_comment=before)
    for table, before, now in _TABLE_COMMENTS:
        op.create_table_comment(table, now, existing_comment=before)
    op.create_table(
        "comparison_analysis",
        _to("comparison_id", "the comparison"),
        _to("analysis_id", "the analysis"),
        _to(
            "first_analysis_id",
            "the analysis of the smallest seed of the same SAE configuration and layer, in whose name results stand",
        ),
        *_keys("comparison_analysis", ("comparison_id", "analysis_id"), ()),
        _foreign("comparison_analysis", "first_analysis_id", "analysis"),
        comment="The analyses of every comparison; analyses of several seeds of one SAE configuration are one in "
        "comparison_score. Comparisons of earlier versions have none.",
    )
    op.create_index("ix_comparison_analysis_analysis_id", "comparison_analysis", ["analysis_id"])
    op.create_table(
        "comparison_trend",
        _to("comparison_id", "the comparison"),
        _text("metric", _HEADLINE),
        _to("analysis_id", "the SAE configuration's analysis of the first layer and the smallest seed"),
        _double("slope", "least-squares slope, per layer; null where a layer has no value"),
        _double("ci_low", "lower bound of its interval"),
        _double("ci_high", "upper bound of its interval"),
        sa.Column("n_layers", sa.SmallInteger(), nullable=False, comment="number of layers"),
        sa.Column("n_seeds", sa.SmallInteger(), nullable=False, comment="seeds of the SAE that it is the mean of"),
        _foreign("comparison_trend", "comparison_id", "comparison"),
        _foreign("comparison_trend", "analysis_id", "analysis"),
        sa.PrimaryKeyConstraint("comparison_id", "metric", "analysis_id", name=op.f("pk_comparison_trend")),
        comment="Slope of every quantity of an SAE configuration over its layers: does it rise with depth?",
    )
    op.create_index("ix_comparison_trend_analysis_id", "comparison_trend", ["analysis_id"])
    op.create_table(
        "latent_stability",
        _to("comparison_id", "the comparison"),
        _to("analysis_id", "the analysis of the latent's SAE"),
        sa.Column("latent", sa.Integer(), nullable=False, comment="index in the dictionary"),
        sa.Column(
            "stability",
            sa.Double(),
            nullable=False,
            comment="cosine of its decoder direction and its match's in another seed, mean over the other seeds",
        ),
        sa.Column(
            "chance",
            sa.Double(),
            nullable=False,
            comment="mean of the same statistic over the latents of the untrained SAEs of these seeds",
        ),
        sa.Column(
            "is_one_to_one",
            sa.Boolean(),
            nullable=False,
            comment="whether every latent of a seed is matched once (Hungarian); in dictionaries of more than 4,096 "
            "latents the match is the latent of the greatest cosine",
        ),
        *_keys("latent_stability", ("comparison_id", "analysis_id"), ("latent",)),
        comment="Seed stability of the latents of SAE configurations that a study trains with several seeds; "
        "other latents have none.",
    )
    op.create_index("ix_latent_stability_analysis_id", "latent_stability", ["analysis_id", "latent"])


def downgrade() -> None:
    """Undo."""
    op.execute("DROP VIEW layer_interval")
    for table in ("latent_stability", "comparison_trend", "comparison_analysis"):
        op.drop_table(table)
    for table, before, now in _TABLE_COMMENTS:
        op.create_table_comment(table, before, existing_comment=now)
    for table, column, kind, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=kind, comment=before, existing_comment=now)
    for table in ("comparison_score", "comparison_difference"):
        op.drop_column(table, "n_seeds")
    for table in ("layer_tree_shuffle", "layer_replicate"):
        op.drop_table(table)


def _to(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, comment=comment)


def _text(name: str, comment: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, comment=comment)


def _double(name: str, comment: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=True, comment=comment)


def _keys(
    table: str, references: tuple[str, ...], others: tuple[str, ...]
) -> list[sa.PrimaryKeyConstraint | sa.ForeignKeyConstraint]:
    """The primary key of these columns, of which the first refer to `comparison` and `analysis`."""
    primary = sa.PrimaryKeyConstraint(*references, *others, name=op.f(f"pk_{table}"))
    return [primary, *(_foreign(table, column, column.removesuffix("_id")) for column in references)]


def _foreign(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE")
