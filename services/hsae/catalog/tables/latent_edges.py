"""Tables of the latents' own hierarchy: parent and child latents, and what a parent's children are together."""

from sqlalchemy import Boolean, Double, ForeignKey, Index, Integer, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base
from hsae.catalog.tables.scores import BASIS, SEED

_SOURCE = (
    "taxonomy (the best latents of a node and of its hyponym) or activation (the parent fires wherever the child does, "
    "and not the other way round)"
)


class LatentEdge(Base):
    """A parent latent and one of its children."""

    __tablename__ = "latent_edge"
    __table_args__ = (
        Index("ix_latent_edge_child", "analysis_id", "basis", "child"),
        # By falling implication; those of the taxonomy, a few of many, by themselves as well.
        Index("ix_latent_edge_implication", "basis", text("implication DESC NULLS LAST"), text("n_child DESC")),
        Index(
            "ix_latent_edge_taxonomy",
            "basis",
            text("implication DESC NULLS LAST"),
            text("n_child DESC"),
            postgresql_where=text("source = 'taxonomy'"),
        ),
        {
            "comment": "Pairs of latents of which one is the other's parent, found by the taxonomy or by "
            "activations alone; analyses of earlier versions have none."
        },
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment=BASIS)
    parent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index of the parent in the dictionary")
    child: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index of the child in the dictionary")
    source: Mapped[str] = mapped_column(primary_key=True, comment=_SOURCE)
    seed: Mapped[int] = mapped_column(SmallInteger, primary_key=True, comment=SEED)
    parent_synset_id: Mapped[int | None] = mapped_column(
        ForeignKey("synset.id"), comment="source taxonomy: the node whose best latent the parent is"
    )
    child_synset_id: Mapped[int | None] = mapped_column(
        ForeignKey("synset.id"), comment="source taxonomy: that node's hyponym whose best latent the child is"
    )
    n_parent: Mapped[int] = mapped_column(Integer, comment="images on which the parent fires")
    n_child: Mapped[int] = mapped_column(Integer, comment="images on which the child fires")
    n_both: Mapped[int] = mapped_column(Integer, comment="images on which both fire")
    implication: Mapped[float | None] = mapped_column(Double, comment="P(parent fires | child fires)")
    weighted_implication: Mapped[float | None] = mapped_column(
        Double, comment="share of the child's activation that lies on images on which the parent fires"
    )
    reverse_implication: Mapped[float | None] = mapped_column(Double, comment="P(child fires | parent fires)")
    weighted_reverse_implication: Mapped[float | None] = mapped_column(
        Double, comment="share of the parent's activation that lies on images on which the child fires"
    )
    dominance: Mapped[float | None] = mapped_column(
        Double, comment="P(the parent is the stronger | both fire); null where they never do"
    )
    hard_absorption: Mapped[float | None] = mapped_column(
        Double, comment="1 - implication: how often the parent falls silent where the child fires"
    )
    soft_absorption: Mapped[float | None] = mapped_column(
        Double, comment="1 - dominance: how often the parent is not the stronger where both fire"
    )
    correlation: Mapped[float | None] = mapped_column(
        Double, comment="Spearman correlation of the two activations over the images on which both fire"
    )
    is_ms_abstract: Mapped[bool | None] = mapped_column(
        Boolean, comment="whether the child's monosemanticity score is above the parent's"
    )


class LatentFamily(Base):
    """A parent latent and all its children of one source."""

    __tablename__ = "latent_family"
    __table_args__ = (
        {"comment": "The parents of latent_edge, each with what its children of one source are together."},
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment=BASIS)
    parent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index of the parent in the dictionary")
    source: Mapped[str] = mapped_column(primary_key=True, comment=_SOURCE)
    seed: Mapped[int] = mapped_column(SmallInteger, primary_key=True, comment=SEED)
    n_children: Mapped[int] = mapped_column(Integer, comment="latents directly below it")
    n_parent: Mapped[int] = mapped_column(Integer, comment="images on which the parent fires")
    refinement: Mapped[float | None] = mapped_column(Double, comment="P(any child fires | parent fires)")
    correlation: Mapped[float | None] = mapped_column(
        Double,
        comment="Spearman correlation of the parent's activation and its children's greatest, where the parent fires",
    )
    sibling_similarity: Mapped[float | None] = mapped_column(
        Double, comment="mean cosine of two children's decoder directions; null with one child"
    )
    random_similarity: Mapped[float | None] = mapped_column(
        Double, comment="the same of as many latents drawn at random: the mean over the draws"
    )
    random_share: Mapped[float | None] = mapped_column(
        Double, comment="share of the random draws that are at least as alike as the children"
    )
    ms_abstract_share: Mapped[float | None] = mapped_column(
        Double, comment="share of the children whose monosemanticity score is above the parent's"
    )
