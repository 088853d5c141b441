"""Tables of what a study's comparison found: each quantity, and each difference, with its interval."""

from sqlalchemy import Double, ForeignKey, Index, Integer, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, CreatedAt, Identity64, Json
from hsae.catalog.tables.replicates import HEADLINE

_METRIC = (
    f"{HEADLINE}; of earlier versions best_f1_mean, best_f1_inner_mean, share_nodes_f1, lch_height_mean, coverage_mean,"
    " monosemanticity_mean, class_entropy_mean, label_f1_mean"
)
_N_SEEDS = "seeds of the SAE that it is the mean of; null in comparisons of earlier versions"
_N_FOLDS = (
    "2: the mean of both halves of the images, each scored with SAEs that the other trained (cross-fitting), which an "
    "analysis apiece has; else 1; null in comparisons of earlier versions"
)
_FIRST = "the analysis; of several seeds of one SAE configuration that of the smallest seed"


class Comparison(Base):
    """The analyses of one study compared."""

    __tablename__ = "comparison"
    __table_args__ = (
        Index("ix_comparison_job_id", "job_id"),
        {"comment": "Comparisons, one per set of analyses: each study has one; studies of the same analyses share it."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    key: Mapped[str] = mapped_column(unique=True, comment="content address: the analyses' keys and the configuration")
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), comment="the job that made it")
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"), comment="the labelled images of all its analyses")
    config: Mapped[Json] = mapped_column(
        comment="confidence of the intervals, format; of earlier versions the bootstrap: seed, n_resamples, confidence"
    )
    created_at: Mapped[CreatedAt]


class ComparisonScore(Base):
    """One quantity of one basis of one analysis."""

    __tablename__ = "comparison_score"
    __table_args__ = (
        Index("ix_comparison_score_analysis_id", "analysis_id"),
        {"comment": "What a comparison's analyses and their controls reach, with intervals."},
    )

    comparison_id: Mapped[int] = mapped_column(
        ForeignKey("comparison.id", ondelete="CASCADE"), primary_key=True, comment="the comparison"
    )
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment=_FIRST
    )
    basis: Mapped[str] = mapped_column(
        primary_key=True, comment="sae or a control; the mean over its seeds, where it has several"
    )
    metric: Mapped[str] = mapped_column(primary_key=True, comment=_METRIC)
    value: Mapped[float | None] = mapped_column(Double, comment="the mean over nodes or latents; null without any")
    ci_low: Mapped[float | None] = mapped_column(Double, comment="lower bound of its interval")
    ci_high: Mapped[float | None] = mapped_column(Double, comment="upper bound of its interval")
    n: Mapped[int] = mapped_column(Integer, comment="nodes or latents that it is the mean of")
    n_seeds: Mapped[int | None] = mapped_column(SmallInteger, comment=_N_SEEDS)
    n_folds: Mapped[int | None] = mapped_column(SmallInteger, comment=_N_FOLDS)


class ComparisonDifference(Base):
    """One quantity of a basis minus the same of another."""

    __tablename__ = "comparison_difference"
    __table_args__ = (
        Index("ix_comparison_difference_analysis_id", "analysis_id"),
        Index("ix_comparison_difference_other_analysis_id", "other_analysis_id"),
        {
            "comment": "Differences with intervals: each SAE minus its controls, minus the same "
            "configuration one layer before, and minus the other SAEs of its layer. They are paired by replicate."
        },
    )

    comparison_id: Mapped[int] = mapped_column(
        ForeignKey("comparison.id", ondelete="CASCADE"), primary_key=True, comment="the comparison"
    )
    metric: Mapped[str] = mapped_column(primary_key=True, comment=_METRIC)
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment="its basis")
    other_analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis that is subtracted"
    )
    other_basis: Mapped[str] = mapped_column(primary_key=True, comment="the basis that is subtracted")
    value: Mapped[float | None] = mapped_column(Double, comment="the difference; null where one side has no value")
    ci_low: Mapped[float | None] = mapped_column(Double, comment="lower bound of its interval")
    ci_high: Mapped[float | None] = mapped_column(Double, comment="upper bound of its interval")
    n: Mapped[int] = mapped_column(Integer, comment="nodes or latents; the smaller of the two numbers")
    n_seeds: Mapped[int | None] = mapped_column(SmallInteger, comment=_N_SEEDS)
    n_folds: Mapped[int | None] = mapped_column(SmallInteger, comment=_N_FOLDS)


class ComparisonAnalysis(Base):
    """One analysis of a comparison, and the group of seeds that it belongs to."""

    __tablename__ = "comparison_analysis"
    __table_args__ = (
        Index("ix_comparison_analysis_analysis_id", "analysis_id"),
        {
            "comment": "The analyses of every comparison; analyses of several seeds of one SAE configuration are one "
            "in comparison_score. Comparisons of earlier versions have none."
        },
    )

    comparison_id: Mapped[int] = mapped_column(
        ForeignKey("comparison.id", ondelete="CASCADE"), primary_key=True, comment="the comparison"
    )
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    first_analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"),
        comment="the analysis of the smallest seed of the same SAE configuration and layer, in whose name results "
        "stand",
    )


class ComparisonTrend(Base):
    """How one quantity of one SAE configuration changes with depth."""

    __tablename__ = "comparison_trend"
    __table_args__ = (
        Index("ix_comparison_trend_analysis_id", "analysis_id"),
        {"comment": "Slope of every quantity of an SAE configuration over its layers: does it rise with depth?"},
    )

    comparison_id: Mapped[int] = mapped_column(
        ForeignKey("comparison.id", ondelete="CASCADE"), primary_key=True, comment="the comparison"
    )
    metric: Mapped[str] = mapped_column(primary_key=True, comment=HEADLINE)
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"),
        primary_key=True,
        comment="the SAE configuration's analysis of the first layer and the smallest seed",
    )
    slope: Mapped[float | None] = mapped_column(
        Double, comment="least-squares slope, per layer; null where a layer has no value"
    )
    ci_low: Mapped[float | None] = mapped_column(Double, comment="lower bound of its interval")
    ci_high: Mapped[float | None] = mapped_column(Double, comment="upper bound of its interval")
    n_layers: Mapped[int] = mapped_column(SmallInteger, comment="number of layers")
    n_seeds: Mapped[int] = mapped_column(SmallInteger, comment="seeds of the SAE that it is the mean of")
    n_folds: Mapped[int | None] = mapped_column(SmallInteger, comment=_N_FOLDS)


class LatentStability(Base):
    """How well one latent is found again with other seeds."""

    __tablename__ = "latent_stability"
    __table_args__ = (
        Index("ix_latent_stability_analysis_id", "analysis_id", "latent"),
        {
            "comment": "Seed stability of the latents of SAE configurations that a study trains with several seeds; "
            "other latents have none."
        },
    )

    comparison_id: Mapped[int] = mapped_column(
        ForeignKey("comparison.id", ondelete="CASCADE"), primary_key=True, comment="the comparison"
    )
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis of the latent's SAE"
    )
    latent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index in the dictionary")
    stability: Mapped[float] = mapped_column(
        Double, comment="cosine of its decoder direction and its match's in another seed, mean over the other seeds"
    )
    chance: Mapped[float] = mapped_column(
        Double, comment="mean of the same statistic over the latents of the untrained SAEs of these seeds"
    )
    is_one_to_one: Mapped[bool] = mapped_column(
        comment="whether every latent of a seed is matched once (Hungarian); in dictionaries too large for "
        "that the match is the latent of the greatest cosine"
    )
