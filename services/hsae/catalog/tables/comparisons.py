"""Tables of what a study's comparison found: each quantity, and each difference, with its interval."""

from sqlalchemy import Double, ForeignKey, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, CreatedAt, Identity64, Json

_METRIC = (
    "over nodes: best_f1_mean, best_f1_inner_mean (3+ classes), share_nodes_f1; over latents: lch_height_mean,"
    " coverage_mean, monosemanticity_mean, class_entropy_mean, label_f1_mean"
)


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
    config: Mapped[Json] = mapped_column(comment="bootstrap: seed, n_resamples, confidence")
    created_at: Mapped[CreatedAt]


class ComparisonScore(Base):
    """One quantity of one basis of one analysis."""

    __tablename__ = "comparison_score"
    __table_args__ = (
        Index("ix_comparison_score_analysis_id", "analysis_id"),
        {"comment": "What a comparison's analyses and their controls reach, with percentile bootstrap intervals."},
    )

    comparison_id: Mapped[int] = mapped_column(
        ForeignKey("comparison.id", ondelete="CASCADE"), primary_key=True, comment="the comparison"
    )
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(
        primary_key=True, comment="sae or a control; the mean over its seeds, where it has several"
    )
    metric: Mapped[str] = mapped_column(primary_key=True, comment=_METRIC)
    value: Mapped[float | None] = mapped_column(Double, comment="the mean over nodes or latents; null without any")
    ci_low: Mapped[float | None] = mapped_column(Double, comment="lower bound of its interval")
    ci_high: Mapped[float | None] = mapped_column(Double, comment="upper bound of its interval")
    n: Mapped[int] = mapped_column(Integer, comment="nodes or latents that it is the mean of")


class ComparisonDifference(Base):
    """One quantity of a basis minus the same of another."""

    __tablename__ = "comparison_difference"
    __table_args__ = (
        Index("ix_comparison_difference_analysis_id", "analysis_id"),
        Index("ix_comparison_difference_other_analysis_id", "other_analysis_id"),
        {
            "comment": "Differences with percentile bootstrap intervals: each SAE minus its controls, minus the same "
            "configuration one layer before, and minus the other SAEs of its layer. Over nodes they are paired."
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
    n: Mapped[int] = mapped_column(Integer, comment="nodes, or the smaller of the two numbers of latents")
