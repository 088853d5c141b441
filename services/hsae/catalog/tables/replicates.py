"""Tables of the headline numbers of an analysis: with classes deleted, and with shuffled taxonomies."""

from sqlalchemy import ForeignKey, Integer, SmallInteger
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Double

from hsae.catalog.tables.base import Base
from hsae.catalog.tables.scores import BASIS, SEED

HEADLINE = (
    "coherence_excess and coherence_excess_weighted (bits), f1_adjusted_inner_mean (distinct nodes of 3+ classes),"
    " f1_adjusted_mean (distinct nodes), purity_mean, lch_excess_mean (bits)"
)


class LayerReplicate(Base):
    """One headline number of one basis, with its replicates."""

    __tablename__ = "layer_replicate"
    __table_args__ = (
        {
            "comment": "Headline numbers of every basis with their values when a fifth of the classes is deleted; the "
            "classes of a replicate are the same for all analyses of one set of classes and seed, so that differences "
            "are paired. Analyses of earlier versions have none. The view layer_interval has the intervals."
        },
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment=BASIS)
    seed: Mapped[int] = mapped_column(SmallInteger, primary_key=True, comment=SEED)
    metric: Mapped[str] = mapped_column(primary_key=True, comment=HEADLINE)
    value: Mapped[float | None] = mapped_column(Double, comment="with all classes; null where undefined")
    n: Mapped[int] = mapped_column(Integer, comment="nodes or latents that it is the mean of")
    replicates: Mapped[list[float | None]] = mapped_column(
        ARRAY(Double), comment="its value in every replicate, null where undefined; empty if none were asked for"
    )


class LayerTreeShuffle(Base):
    """One number of an SAE beside its values under shuffled taxonomies."""

    __tablename__ = "layer_tree_shuffle"
    __table_args__ = (
        {
            "comment": "Headline numbers of the SAE under permutations of the classes over the tree: what a tree "
            "without meaning gives. Analyses of earlier versions have none."
        },
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment="sae")
    metric: Mapped[str] = mapped_column(
        primary_key=True,
        comment=f"{HEADLINE}, but not purity_mean; the paper's lch_height_mean and coverage_mean; and of layer_score "
        "best_f1_adjusted_single_mean, best_f1_adjusted_pair_mean, best_f1_mean, best_f1_inner_mean and share_nodes_f1,"
        " which analyses of earlier versions lack",
    )
    value: Mapped[float | None] = mapped_column(Double, comment="with the taxonomy as it is; null where undefined")
    n_shuffles: Mapped[int] = mapped_column(Integer, comment="number of permutations")
    mean: Mapped[float | None] = mapped_column(Double, comment="mean over the permutations")
    sd: Mapped[float | None] = mapped_column(Double, comment="standard deviation over the permutations")
    q025: Mapped[float | None] = mapped_column(Double, comment="2.5 % quantile of the permutations")
    q975: Mapped[float | None] = mapped_column(Double, comment="97.5 % quantile of the permutations")
    p: Mapped[float | None] = mapped_column(
        Double,
        comment="(1 + permutations that follow the tree at least as well) / (1 + n_shuffles); a smaller "
        "lch_height_mean and a greater value of any other number follow it better",
    )
